"""CIFAR-10 at 8x8 pixels, class-conditional: the first stage of a cascade, on a CPU.

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_base.py --workdir=runs/cifar_base

A few minutes of one CPU core, not measured; so few steps show that the stages fit together.
"""

import ml_collections

from ml_collections_configs import cifar_vp_small, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        cifar_vp_small.get_config().to_dict(),
        data=dict(reduced=dict(factor=4)),
        network=dict(channels=32, multipliers=(1, 2), attention=(8,), blocks=1, patch=1),
        train=dict(steps=400),
    )
