"""CIFAR-10 enlarged from 8x8 to 16x16 pixels: the second stage of a cascade, on a CPU.

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_middle.py \
    --workdir=runs/cifar_middle

A few minutes of one CPU core, not measured; so few steps show that the stages fit together.
"""

import ml_collections

from ml_collections_configs import cifar_base, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        cifar_base.get_config().to_dict(),
        data=dict(reduced=dict(factor=2), enlarged=dict(factor=2, levels=(0.0, 0.5))),
        loss=dict(condition_dropout=dict(label=0.1)),
        sampling=dict(guidance=dict(weight=1.0, reference="several")),
        train=dict(steps=300),
    )
