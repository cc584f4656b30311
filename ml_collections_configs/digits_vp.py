"""Class-conditional 8x8 digits, VP with a cosine schedule and v-prediction.

python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits

Two CPU cores: 2 to 4 minutes. Then `python -m diffjax.evaluate --workdir=runs/digits` on 1,000
samples: Frechet distance 1.10 times the floor, 97.6 % in the class asked for; 99.9 % with
guidance 1.5 (experiments/digits).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="digits", labels=True),
            sde=dict(name="vp", t_min=1e-3, t_max=0.995, schedule=dict(name="cosine")),
            parameterization=dict(name="v", c_noise="time"),
            network=dict(
                name="unet",
                channels=32,
                multipliers=(1, 2),
                blocks=1,
                attention=(4,),
                heads=4,
                dropout=0.0,
            ),
            loss=dict(
                weight=dict(name="uniform_output"),
                draw=dict(name="uniform", stratified=True),
                condition_dropout=0.1,
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup=50, clip=1.0, b2=0.99),
            ema=dict(name="power", std=0.1),
            sampling=dict(
                sampler=dict(name="ddim"), grid=dict(name="uniform"), steps=30, guidance=1.0
            ),
            train=dict(
                steps=600,
                batch_size=128,
                steps_per_dispatch=10,
                log_every=50,
                sample_every=300,
                checkpoint_every=150,
                keep=2,
                samples=64,
            ),
        )
    )
