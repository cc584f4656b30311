"""Spoken digits by class, as waveforms of half a second at 8 kHz, by a U-Net of 1.9 M parameters.

python -m experiments.spoken.speak --out=data/spoken
python -m diffjax.train --config=configs/spoken.py --workdir=runs/spoken

The 2,000 steps take 21 minutes of a shared core and are far too few: the samples are noise with the
envelope of speech. The config `spoken_bands` comes to words in 25 minutes (experiments/spoken).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="sounds:data/spoken", length=4096, classes=True, labels=True),
            sde=dict(
                name="ve",
                t_min=1e-9,
                t_max=1.0,
                schedule=dict(name="karras", sigma_min=2e-4, sigma_max=5.0),
            ),
            parameterization=dict(name="edm", sigma_data=0.08, c_noise="quarter_log_sigma"),
            network=dict(
                name="unet",
                channels=32,
                multipliers=(1, 2, 4, 4),
                blocks=1,
                attention=(64,),
                heads=4,
                dropout=0.0,
                patch=8,
            ),
            loss=dict(
                weight=dict(name="edm", sigma_data=0.08),
                draw=dict(name="log_normal", mean=-3.5, std=2.0, stratified=True),
                condition_dropout=0.1,
            ),
            optimizer=dict(name="adamw", learning_rate=1.5e-3, warmup=100, clip=1.0, b2=0.99),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="dpmpp_2m"), steps=30, guidance=1.5),
            train=dict(
                steps=2000,
                batch_size=8,
                steps_per_dispatch=10,
                log_every=100,
                sample_every=2000,
                checkpoint_every=500,
                keep=2,
                samples=20,
            ),
        )
    )
