"""Squares of the relief of the earth, 32 x 32 heights, by a small U-Net.

python -m diffjax.train --config=configs/relief.py --workdir=runs/relief \\
    --config.data.name=relief:PATH/etopo5.cdf
python -m diffjax.evaluate --workdir=runs/relief --num=640 --metrics=spectrum

The training took 29 minutes of wall-clock on a CPU that other work shared. Samples have too much
power: 1.6 times that of training squares at the longest waves, and 4.3 times at the shortest ones
(experiments/forecasts).
"""

import ml_collections

from ml_collections_configs import lorenz96, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        lorenz96.get_config().to_dict(),
        data=dict(name="relief", conditions=()),
        sde=dict(schedule=dict(name="karras", sigma_min=0.003, sigma_max=40.0)),
        network=dict(
            name="unet",
            patch=2,
            channels=48,
            multipliers=(1, 2),
            blocks=1,
            attention=(),
            heads=2,
            groups=8,
        ),
        loss=dict(draw=dict(name="log_normal", mean=-1.8, std=1.6)),
        optimizer=dict(learning_rate=1e-3, schedule=dict(name="cosine", length=1000)),
        sampling=dict(steps=32),
        train=dict(
            steps=1000,
            batch_size=32,
            sample_every=1000,
            checkpoint_every=250,
            log_every=50,
            samples=36,
        ),
    )
