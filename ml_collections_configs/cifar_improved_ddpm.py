"""CIFAR-10, unconditional, improved DDPM (arXiv:2102.09672, sec. 3 and app. A).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_improved_ddpm.py \
    --workdir=runs/improved_ddpm

The cosine table of 4,000 betas, a second output that learns the variance of a step by the hybrid
loss (0.001 times the bound), Adam at 1e-4, dropout 0.3, EMA 0.9999, 500,000 steps of 128. The
network has 3 blocks per level, attention with 4 heads at 16 and 8, and scales and shifts its norms.
Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        sde=dict(t_min=1 / 4000, schedule=dict(name="ddpm_cosine", steps=4000)),
        parameterization=dict(c_noise="time"),
        network=dict(
            blocks=3,
            attention=(16, 8),
            heads=4,
            embedding="adm",
            resample="centred_conv",
            scale_shift=True,
            epsilon=1e-5,
            dropout=0.3,
            learn_variance=True,
        ),
        loss=dict(draw=dict(name="discrete", steps=4000), hybrid=0.001, steps=4000),
        optimizer=dict(learning_rate=1e-4, warmup=1),
        sampling=dict(sampler=dict(name="ancestral"), steps=100),
        train=dict(steps=500_000),
    )
