"""Class-conditional 8x8 digits in the latents of digits_vae: a small DiT, flow matching.

python -m diffjax.train --config=configs/digits_vae.py --workdir=runs/digits_vae
python -m diffjax.tools.encode digits --codec=runs/digits_vae --out=data/digits_vae_latents
python -m diffjax.train --config=configs/digits_latent_dit.py --workdir=runs/digits_latent
python -m diffjax.evaluate --workdir=runs/digits_latent

Other places are `--config.data.name=latents:PATH --config.data.codec=RUN`. The last training takes
2.7 minutes of CPU time of one core. 1,000 decoded samples have a Frechet distance of pixels of 1.10
times the floor, and 99.7 % have the class asked for; with guidance 1.5, 1.62 times and 100 %.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="latents:data/digits_vae_latents", codec="runs/digits_vae", labels=True),
            sde=dict(name="flow", schedule=dict(name="logit")),
            parameterization=dict(name="velocity", c_noise="time"),
            network=dict(name="dit", width=64, depth=4, heads=4, patch=1),
            loss=dict(
                weight=dict(name="uniform_output"),
                draw=dict(name="logit_normal"),
                condition_dropout=0.1,
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup=100),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="ddim"), steps=50, guidance=1.0),
            train=dict(
                steps=4000,
                batch_size=64,
                steps_per_dispatch=10,
                log_every=50,
                sample_every=1000,
                checkpoint_every=500,
                samples=100,
            ),
        )
    )
