"""Spoken digits by class, as 128 principal components of pictures of their mel bands, by an MLP.

python -m experiments.spoken.speak --out=data/spoken
python -m experiments.spoken.bands --path=data/spoken --components=128 \\
    --out=data/spoken_components.npz
python -m diffjax.train --config=configs/spoken_components.py --workdir=runs/spoken_components
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="array:data/spoken_components.npz", kind="vector", labels=True),
            sde=dict(name="vp", t_min=1e-3, t_max=0.995, schedule=dict(name="cosine")),
            parameterization=dict(name="v", c_noise="time"),
            network=dict(name="mlp", width=512, depth=4),
            loss=dict(
                weight=dict(name="uniform_output"),
                draw=dict(name="uniform", stratified=True),
                condition_dropout=0.1,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1.5e-3,
                warmup=100,
                clip=1.0,
                b2=0.99,
                schedule=dict(name="cosine", length=3000),
            ),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="dpmpp_2m"), steps=20, guidance=1.5),
            train=dict(
                steps=3000,
                batch_size=128,
                steps_per_dispatch=50,
                log_every=100,
                sample_every=3000,
                checkpoint_every=500,
                keep=2,
                samples=20,
            ),
        )
    )
