"""A vocoder: sounds of 0.5 s at 8 kHz from the levels of their 40 mel bands, by a small U-Net.

python -m diffjax.train --config=configs/vocoder.py --workdir=runs/vocoder \
    --config.data.name=sounds:PATH

PATH is a folder of WAV files of 16 bits and 8 kHz, such as the 25 minutes of one voice in Debian's
package asterisk-core-sounds-en-wav (CC BY-SA 3.0), without its files of silence. The network draws
the excitation of the filter that the levels state, which is about white, as an image of 32 blocks
by 128 frequencies. Then `python -m diffjax.sample --workdir=runs/vocoder --num=8 --out=sounds`
makes held-out sounds of their mel bands, and `python -m diffjax.evaluate --workdir=runs/vocoder
--metrics=log_spectral` compares both (experiments/vocoder). The 3,500 steps take about 46 minutes
of two cores that are shared with three other trainings.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="sounds", length=4096, maps=("mel",), excitation=True),
            sde=dict(
                name="ve",
                t_min=1e-9,
                t_max=1.0,
                schedule=dict(name="karras", sigma_min=0.01, sigma_max=20.0),
            ),
            parameterization=dict(name="edm", sigma_data=0.8, c_noise="quarter_log_sigma"),
            network=dict(
                name="unet",
                channels=32,
                multipliers=(1, 2, 2),
                blocks=1,
                patch=2,
                attention=(4,),
                heads=4,
                dropout=0.0,
            ),
            loss=dict(
                weight=dict(name="edm", sigma_data=0.8),
                draw=dict(name="log_normal", mean=-0.8, std=1.2),
                condition_dropout=0.0,
            ),
            optimizer=dict(name="adamw", learning_rate=1e-3, warmup=100, clip=1.0),
            ema=dict(name="power", std=0.1),
            sampling=dict(sampler=dict(name="dpmpp_2m"), steps=20),
            train=dict(
                steps=3500,
                batch_size=8,
                steps_per_dispatch=10,
                log_every=50,
                sample_every=1750,
                checkpoint_every=500,
                held_out_every=500,
                held_out=128,
                keep=2,
                samples=8,
            ),
        )
    )
