"""ImageNet at 64 x 64, class-conditional: ADM (arXiv:2105.05233, tab. 11).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/imagenet64_adm.py --workdir=runs/adm64

The U-Net of 295.9 M parameters with a learned variance, the cosine table of 1,000 betas, the hybrid
loss, Adam at 3e-4, EMA 0.9999, 540,000 steps of 2,048 images; FID 2.61 with 250 steps there.
`data.name=folder:PATH` with `data.size=64` reads image files. Made for many GPUs or TPUs: compiled
for 8 H100 with `--config.network.dtype=bfloat16 --config.train.sharding=fsdp
--config.train.accumulate=16`, the step needs 5.4 GB on each (docs/devices.md). No result was
measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(name="tfds:imagenet_resized/64x64", flip=True, labels=True),
        sde=dict(t_min=1e-3, schedule=dict(name="ddpm_cosine", steps=1000)),
        parameterization=dict(c_noise="index"),
        network=networks.ADM64,
        loss=dict(draw=dict(name="discrete", steps=1000), hybrid=0.001, steps=1000),
        optimizer=dict(learning_rate=3e-4, warmup=1),
        sampling=dict(sampler=dict(name="ancestral_learned"), steps=250),
        train=dict(steps=540_000, batch_size=2048),
    )
