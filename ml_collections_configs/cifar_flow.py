"""CIFAR-10, unconditional, flow matching on straight paths (arXiv:2210.02747; arXiv:2209.03003).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_flow.py --workdir=runs/cifar_flow

x_t = (1 - t) x0 + t eps, the network predicts the velocity, t uniform; 400,000 steps of 256, Adam
at 2e-4 and EMA 0.9999; sampling by Euler's method, which is ddim in this frame. The network is that
of cifar_vp. Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        sde=dict(name="flow", t_min=1e-5, t_max=1.0, schedule=dict(name="logit")),
        parameterization=dict(name="velocity", c_noise="time"),
        loss=dict(draw=dict(name="uniform", stratified=True)),
        sampling=dict(steps=100),
        train=dict(steps=400_000, batch_size=256),
    )
