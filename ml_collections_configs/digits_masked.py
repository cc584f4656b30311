"""Class-conditional 8x8 digits in their 17 native levels, by masked (absorbing) diffusion.

python -m diffjax.train --config=configs/digits_masked.py --workdir=runs/digits_masked

Held-out digits, given their labels, need 1.77 bits per dimension, where independent pixels need
2.43; the uniform process (loss.process.name=uniform, levels=17) needs 1.91 (experiments/discrete).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="digits", labels=True),
            sde=dict(name="vp", t_min=1e-3, t_max=1.0, schedule=dict(name="cosine")),
            parameterization=dict(name="x0", c_noise="time"),
            network=dict(name="dit", width=96, depth=3, heads=4, patch=1),
            loss=dict(
                name="discrete",
                process=dict(name="masked", levels=17),
                draw=dict(name="uniform", stratified=True),
                condition_dropout=0.1,
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup=100, clip=1.0, b2=0.99),
            ema=dict(name="power", std=0.05),
            sampling=dict(sampler=dict(name="first_hitting"), steps=64),
            train=dict(
                steps=1500,
                batch_size=64,
                steps_per_dispatch=10,
                log_every=50,
                sample_every=750,
                checkpoint_every=500,
                keep=1,
                samples=60,
            ),
        )
    )
