"""CIFAR-10, unconditional, variance exploding: sigma from 0.01 to 50 (arXiv:2011.13456, app. C).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_ve.py --workdir=runs/cifar_ve

The process, the weighting, the EMA and the network, NCSN++ with 62.8 M parameters, of that paper's
VE models; 1.3 million steps there. Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        sde=dict(name="ve", t_min=1e-5, t_max=1.0, schedule=dict(name="geometric")),
        parameterization=dict(c_noise="log_sigma"),
        network=dict(networks.NCSNPP, multipliers=(1, 2, 2, 2), dropout=0.1),
        ema=dict(decay=0.999),
        sampling=dict(sampler=dict(name="heun"), steps=25),
        train=dict(steps=1_300_000),
    )
