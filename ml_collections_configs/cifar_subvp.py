"""CIFAR-10, unconditional, sub-VP with the classic linear betas (arXiv:2011.13456, app. C).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_subvp.py --workdir=runs/cifar_subvp

DDPM++ with 61.8 M parameters, uniform weight on eps, t from 1e-3, EMA 0.9999, 950,000 steps of
128, as published. Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        sde=dict(
            name="sub_vp",
            t_min=1e-3,
            t_max=1.0,
            schedule=dict(name="classic_sub_vp", schedule=dict(name="linear")),
        ),
        network=dict(networks.DDPMPP, multipliers=(1, 2, 2, 2), dropout=0.1),
        train=dict(steps=950_000),
    )
