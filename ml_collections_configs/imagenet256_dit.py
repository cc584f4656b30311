"""ImageNet at 256 x 256 in the latents of an autoencoder: DiT-XL/2 (arXiv:2212.09748, sec. 4).

python -m diffjax.tools.encode folder:imagenet,size=256 --codec=sd-vae-ft-ema --out=data/latents
python -m diffjax.train --config=configs/imagenet256_dit.py --workdir=runs/dit \
    --config.data.name=latents:data/latents --config.data.codec=sd-vae-ft-ema

Latents (32, 32, 4), of which each epoch draws anew; for files `latents.npy` and `labels.npy` of
another program, set --config.data.scale=0.18215. 675 M parameters, 1,000 linear betas,
eps with a learned variance, AdamW at 1e-4 without decay, batches of 256, EMA 0.9999, conditions
dropped with chance 0.1, 7 million steps; FID 9.62 without and 2.27 with guidance 1.5 there, 250
steps. Made for many GPUs or TPUs: with `--config.network.dtype=bfloat16
--config.train.sharding=fsdp:within=16` the compiled step needs 1.1 GB on each of 256 TPU v5e, and
with `--config.train.sharding=fsdp --config.network.remat=all` 3.9 GB on each of 8
(docs/devices.md). No result was measured here.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(name="latents:latents", scale=1.0, flip=False, labels=True),
        sde=dict(t_min=1e-3, schedule=dict(name="ddpm_linear", steps=1000)),
        parameterization=dict(c_noise="index"),
        network=dict(name="dit", size="XL", patch=2, learn_variance=True),
        loss=dict(
            draw=dict(name="discrete", steps=1000),
            hybrid=0.001,
            steps=1000,
            condition_dropout=0.1,
        ),
        optimizer=dict(learning_rate=1e-4, warmup=0),
        sampling=dict(sampler=dict(name="ancestral_learned"), steps=250, guidance=1.5),
        train=dict(steps=7_000_000, batch_size=256),
    )
