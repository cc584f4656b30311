"""CIFAR-10, class-conditional, on a CPU: 6.5 M parameters on squares of 2 x 2 pixels.

TFDS_DATA_DIR=... JAX_NUM_CPU_DEVICES=2 python -m diffjax.train --config=configs/cifar_vp_small.py \
    --workdir=runs/cifar_small

About an hour on two CPU cores, which JAX_NUM_CPU_DEVICES=2 keeps both busy. What it gave is in
experiments/cifar10_cpu.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(labels=True),
        sde=dict(t_max=0.995, schedule=dict(name="cosine")),
        parameterization=dict(name="v", c_noise="time"),
        network=dict(
            channels=64, multipliers=(1, 2, 2), attention=(8,), heads=4, dropout=0.0, patch=2
        ),
        loss=dict(draw=dict(name="uniform", stratified=True), condition_dropout=0.1),
        optimizer=dict(learning_rate=1e-3, warmup=100, b2=0.99),
        ema=dict(name="power", std=0.1),
        sampling=dict(steps=30),
        train=dict(
            steps=2500,
            batch_size=64,
            steps_per_dispatch=5,
            log_every=10,
            sample_every=500,
            checkpoint_every=100,
            samples=60,
        ),
    )
