"""Text to image on the 32x32 emoji that come with the package: a small DiT, flow matching.

python -m diffjax.train --config=configs/emoji_text.py --workdir=runs/emoji

Then `python -m diffjax.sample --workdir=runs/emoji --prompt="red apple, noto style"`. The test
split has pairs of a concept and a style that training has not seen together. 12,000 steps take 3.2
hours of a shared core, and the true image of such a pair then has a median rank of 22 among 1,590
(experiments/text). The trained weights are the entry `emoji` of the zoo.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="emoji", encoder="words"),
            sde=dict(name="flow", schedule=dict(name="logit")),
            parameterization=dict(name="velocity", c_noise="time"),
            network=dict(
                name="dit",
                width=128,
                depth=6,
                heads=4,
                patch=4,
                positions="rotary",
                norm="rms",
                qk_norm=True,
                mlp="swiglu",
                conditions=dict(text=dict(mechanism="cross")),
            ),
            loss=dict(
                weight=dict(name="uniform_output"),
                draw=dict(name="logit_normal"),
                condition_dropout=0.1,
            ),
            optimizer=dict(name="adamw", learning_rate=1e-3, warmup=200, clip=1.0, b2=0.99),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="ddim"), steps=30, guidance=3.0),
            train=dict(
                steps=12_000,
                batch_size=64,
                steps_per_dispatch=10,
                log_every=50,
                sample_every=1000,
                checkpoint_every=200,
                keep=2,
                samples=36,
            ),
        )
    )
