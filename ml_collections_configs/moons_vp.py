"""Two moons in the plane, class-conditional, VP with the linear schedule and v-prediction.

python -m diffjax.train --config=configs/moons_vp.py --workdir=runs/moons
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="moons", labels=True),
            sde=dict(name="vp", t_min=1e-3, t_max=1.0, schedule=dict(name="linear")),
            parameterization=dict(name="v", c_noise="time"),
            network=dict(name="mlp", width=128, depth=3),
            loss=dict(
                weight=dict(name="uniform_output"),
                draw=dict(name="uniform", stratified=True),
                condition_dropout=0.1,
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup=100, clip=1.0),
            ema=dict(name="power", std=0.1),
            sampling=dict(
                sampler=dict(name="ddim"), grid=dict(name="uniform"), steps=50, guidance=1.0
            ),
            train=dict(
                steps=3000,
                batch_size=512,
                log_every=100,
                sample_every=1000,
                checkpoint_every=1000,
                keep=2,
                samples=2000,
            ),
        )
    )
