"""ImageNet at 64 x 64, class-conditional: EDM2-S (arXiv:2312.02696, tab. 5).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/imagenet64_edm2.py --workdir=runs/edm2

The magnitude-preserving U-Net of 280 M parameters, log-normal noise levels (-0.8, 1.6), EDM's
preconditioning and weight with learned uncertainty, Adam at 0.01 with beta2 = 0.99, batches of
2,048; 1,073 Mimg there, and FID 1.58 with 63 passes of Heun. The learning rate warms up over 10
million images and falls as 1 / sqrt(t) after 35,000 steps. Two power-function averages, of widths
0.05 and 0.10; from their snapshots every 4,096 steps (8 Mi images) `python -m diffjax.tools.ema`
makes those of other widths. Made for many GPUs or TPUs; no result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    config = parts.cifar(
        data=dict(name="tfds:imagenet_resized/64x64", flip=True, labels=True),
        sde=dict(name="ve", t_min=1e-9, t_max=1.0, schedule=dict(name="karras")),
        parameterization=dict(name="edm", sigma_data=0.5, c_noise="quarter_log_sigma"),
        network=networks.EDM2S,
        loss=dict(
            weight=dict(name="edm", sigma_data=0.5),
            draw=dict(name="log_normal", mean=-0.8, std=1.6),
            uncertainty=True,
            condition_dropout=0.1,
        ),
        optimizer=dict(
            name="adam",
            learning_rate=0.01,
            b2=0.99,
            warmup=10_000_000,
            in_images=True,
            schedule=dict(name="inverse_sqrt", reference=35_000 * 2048),
        ),
        sampling=dict(sampler=dict(name="heun"), steps=32),
        train=dict(steps=524_288, batch_size=2048, snapshot_every=4096),
    )
    config.ema = ml_collections.ConfigDict(
        dict(short=dict(name="power", std=0.05), long=dict(name="power", std=0.10))
    )
    return config
