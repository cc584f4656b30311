"""Forecasts of the winds of the next month on the globe, given this month, by a small U-Net.

python -m diffjax.train --config=configs/winds.py --workdir=runs/winds \\
    --config.data.name=winds:PATH/monthly_navy_winds.cdf
python -m diffjax.evaluate --workdir=runs/winds --guidance=1 --num=96 --steps=5 \\
    --metrics=crps,energy,spread_skill,rank_histogram

The training takes 23 minutes of wall-clock on a CPU that other work shared. With 4 members for each
of 24 held-out months, the CRPS is 0.563; that of climatology is 0.572, of persistence 0.962, and of
persistence damped by latitude 0.560 (experiments/forecasts).
"""

import ml_collections

from ml_collections_configs import lorenz96, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        lorenz96.get_config().to_dict(),
        data=dict(name="winds", labels=True, conditions=("map", "latitude"), turned=True),
        sde=dict(schedule=dict(name="karras", sigma_min=0.02, sigma_max=40.0)),
        network=dict(
            name="unet",
            channels=24,
            multipliers=(1, 2),
            blocks=1,
            attention=(),
            heads=2,
            groups=8,
            dropout=0.1,
        ),
        loss=dict(draw=dict(name="log_normal", mean=-0.4, std=1.2)),
        optimizer=dict(learning_rate=1e-3, schedule=dict(name="cosine", length=600)),
        train=dict(
            steps=600,
            batch_size=16,
            sample_every=600,
            checkpoint_every=200,
            log_every=50,
            held_out_every=100,
            held_out=24,
        ),
    )
