"""CIFAR-10 in few steps from the small teacher: the Lagrangian rule, LMD (arXiv:2505.18825).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vp_small.py \
    --workdir=runs/cifar_small
TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_lmd.py --workdir=runs/cifar_lmd \
    --config.loss.teacher=runs/cifar_small --resume_from=runs/cifar_small --resume_partial

The student begins with the weights of the teacher and a second time that is zero.
"""

import ml_collections

from ml_collections_configs import cifar_vp_small, digits_lmd, parts


def get_config() -> ml_collections.ConfigDict:
    base, maps = cifar_vp_small.get_config().to_dict(), digits_lmd.get_config().to_dict()
    return parts.changed(
        base,
        network=dict(conditions=maps["network"]["conditions"]),
        loss={
            **maps["loss"],
            "teacher": "runs/cifar_small",
            "draw": dict(name="logit_normal", mean=0.0, std=2.0),
            "condition_dropout": 0.0,
        },
        sampling=maps["sampling"],
        train=dict(steps=500, checkpoint_every=100, sample_every=500),
    )
