"""CIFAR-10, unconditional, sub-VP with the classic linear betas (arXiv:2011.13456, app. C).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_subvp.py --workdir=runs/cifar_subvp

Uniform weight on eps, t from 1e-3, EMA 0.9999, 950,000 steps of 128, as published; the network is
that of cifar_vp, not DDPM++. Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        sde=dict(
            name="sub_vp",
            t_min=1e-3,
            t_max=1.0,
            schedule=dict(name="classic_sub_vp", schedule=dict(name="linear")),
        ),
        train=dict(steps=950_000),
    )
