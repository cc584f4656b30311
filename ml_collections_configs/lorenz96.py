"""Forecasts of the chaotic Lorenz-96 system of 40 values, six steps ahead, by a WaveNet on a ring.

python -m diffjax.train --config=configs/lorenz96.py --workdir=runs/lorenz96
python -m diffjax.evaluate --workdir=runs/lorenz96 --guidance=1 --num=2560 \\
    --metrics=crps,energy,spread_skill,rank_histogram

The training takes 5 minutes of CPU time. The CRPS of its ensembles is 1.005 times that of the true
ensemble (0.989 to 1.021 with 8 members for each of 256 states), a sixth of that of climatology, and
their spread is 1.03 times their error (experiments/forecasts).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="lorenz96", size=20_000, lead=6, noise=1.0, conditions=("map",)),
            sde=dict(
                name="ve",
                t_min=1e-9,
                t_max=1.0,
                schedule=dict(name="karras", sigma_min=0.01, sigma_max=20.0),
            ),
            parameterization=dict(name="edm", sigma_data=1.0, c_noise="quarter_log_sigma"),
            network=dict(name="wavenet", channels=64, depth=9, cycle=3, periodic=True),
            loss=dict(
                weight=dict(name="edm", sigma_data=1.0),
                draw=dict(name="log_normal", mean=-1.2, std=1.2),
                condition_dropout=0.0,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup=100,
                clip=1.0,
                schedule=dict(name="cosine", length=3000),
            ),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="dpmpp_2m"), steps=20, guidance=1.0),
            train=dict(
                steps=3000,
                batch_size=64,
                steps_per_dispatch=10,
                log_every=100,
                sample_every=3000,
                checkpoint_every=1500,
                keep=2,
                samples=8,
            ),
        )
    )
