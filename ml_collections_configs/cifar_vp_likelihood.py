"""CIFAR-10, unconditional, trained for likelihood (arXiv:2101.09258, sec. 6 and app. B).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vp_likelihood.py \
    --workdir=runs/vp_likelihood

The weight g^2 on the score from t = 1e-5 on, with times drawn in proportion to g^2 / sigma^2: the
same expectation with much less variance. DDPM++ with 61.8 M parameters, 950,000 steps of 128, EMA
0.9999; there is no variational dequantisation. Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        sde=dict(t_min=1e-5),
        network=dict(networks.DDPMPP, multipliers=(1, 2, 2, 2), dropout=0.1),
        loss=dict(weight=dict(name="likelihood"), draw=dict(name="likelihood", stratified=False)),
        train=dict(steps=950_000),
    )
