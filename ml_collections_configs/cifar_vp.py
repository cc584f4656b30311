"""CIFAR-10, unconditional, as DDPM was trained (arXiv:2006.11239, app. B): 35.7 M parameters.

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vp.py --workdir=runs/cifar

Linear beta in continuous time, eps-prediction, flips, Adam at 2e-4 after 5,000 steps of warm-up,
EMA 0.9999, 800,000 steps of 128 images. Made for GPU and TPU (`--config.network.dtype=bfloat16`);
DDPM reports an FID of 3.17 with 1,000 ancestral steps (`--sampler=ancestral --steps=1000`), which
was not measured here. It runs on a CPU too, to try it: `--config.train.steps=20` took 12.6 GB and
58 minutes on one of two cores beside other work. `--config.train.accumulate=4` lowers the memory of
the compiled step from 10.3 to 2.7 GB.
Other images: `--config.data.name=folder:PATH --config.data.size=64`.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="tfds:cifar10", flip=True, labels=False),
            sde=dict(name="vp", t_min=1e-3, t_max=1.0, schedule=dict(name="linear")),
            parameterization=dict(name="eps", c_noise="time"),
            network=dict(
                name="unet",
                channels=128,
                multipliers=(1, 2, 2, 2),
                blocks=2,
                attention=(16,),
                heads=1,
                dropout=0.1,
                dtype="float32",
                remat=False,
            ),
            loss=dict(weight="uniform_output", draw="uniform", condition_dropout=0.0),
            optimizer=dict(name="adamw", learning_rate=2e-4, warmup=5000, clip=1.0),
            ema=dict(name="constant", decay=0.9999),
            sampling=dict(
                sampler=dict(name="ddim"), grid=dict(name="uniform"), steps=50, guidance=1.0
            ),
            train=dict(
                steps=800_000,
                batch_size=128,
                accumulate=1,
                steps_per_dispatch=1,
                log_every=100,
                sample_every=10_000,
                checkpoint_every=5_000,
                keep=2,
                samples=16,
            ),
        )
    )
