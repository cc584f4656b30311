"""Series of a damped rotation of the plane, with a time per row: forecasts of known law by lanes.

python -m diffjax.train --config=configs/series.py --workdir=runs/series

Then `python -m diffjax.sample --workdir=runs/series --num=64 --given=test:0 --known=0:8` continues
the first 8 rows of a held-out series 64 times, and `--lanes=autoregressive` one row after the
other. The series are Gaussian, so their exact forecasts are known (`diffjax.data.series`).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="series"),
            sde=dict(name="vp", t_min=1e-3, t_max=0.999, schedule=dict(name="cosine")),
            parameterization=dict(name="v", c_noise="time"),
            network=dict(name="dit", width=32, depth=2, heads=2, patch=1),
            loss=dict(
                name="forcing",
                draw=dict(name="uniform", stratified=True),
                condition_dropout=0.0,
                shared=0.1,
                past=0.3,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=4e-3,
                warmup=100,
                clip=1.0,
                schedule=dict(name="cosine", length=1000),
            ),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="ddim"), grid=dict(name="uniform"), steps=50),
            train=dict(
                steps=1000,
                batch_size=128,
                steps_per_dispatch=20,
                log_every=100,
                sample_every=1000,
                checkpoint_every=500,
                keep=2,
                samples=64,
            ),
        )
    )
