"""CIFAR-10 enlarged from 16x16 to 32x32 pixels: the last stage of a cascade, on a CPU.

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_enlarged.py \
    --workdir=runs/cifar_enlarged

So few steps show that the stages fit together, in a few minutes of one CPU core. The mean colour of
images that it enlarges is off by at most 1.5 grey levels (experiments/cascades).
"""

import ml_collections

from ml_collections_configs import cifar_middle, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        cifar_middle.get_config().to_dict(),
        data=dict(reduced=None),
        network=dict(multipliers=(1, 2, 2), patch=2),
        train=dict(steps=250),
    )
