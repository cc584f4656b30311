"""CIFAR-10, class-conditional, in the latents of cifar_vae: a DiT for the hours of two CPU cores.

TFDS_DATA_DIR=... python -m diffjax.tools.encode tfds:cifar10 --codec=zoo:cifar_vae \\
    --out=data/cifar_vae_latents --flips
python -m diffjax.train --config=configs/cifar_latent_long.py --workdir=runs/cifar_latent_long

It is cifar_latent_dit with three times the parameters. The rate falls as 1 / sqrt(step), so
`--config.train.steps=...` continues a finished run. It was not trained for hours yet, so it has no
numbers: `python -m experiments.budget.study --config=cifar_latent_long` measures its curve.
"""

import ml_collections

from ml_collections_configs import cifar_latent_dit, parts


def get_config() -> ml_collections.ConfigDict:
    config = parts.changed(
        cifar_latent_dit.get_config().to_dict(),
        data=dict(codec="zoo:cifar_vae"),
        network=dict(width=192, depth=6, heads=6),
        optimizer=dict(
            learning_rate=1e-3, schedule=dict(name="inverse_sqrt", reference=4000), warmup=200
        ),
        train=dict(steps=40_000, batch_size=64, sample_every=10_000, checkpoint_every=250, keep=2),
    )
    config.ema = dict(
        narrow=dict(name="power", std=0.05),
        wide=dict(name="power", std=0.1),
    )
    return config
