"""Config of a run on points with a small network, which each test changes as it needs."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="moons", size=400, labels=True),
            sde=dict(name="vp", schedule=dict(name="linear")),
            parameterization=dict(name="eps"),
            network=dict(name="mlp", width=16, depth=1),
            loss=dict(weight="uniform_output", condition_dropout=0.1),
            optimizer=dict(name="adamw", learning_rate=1e-3),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="heun"), steps=2),
            train=dict(
                steps=20,
                batch_size=8,
                log_every=1,
                sample_every=10**6,
                samples=6,
                checkpoint_every=10,
                held_out_every=10,
                held_out=50,
                snapshot_every=10,
                keep=100,
                writers=(),
            ),
        )
    )
