"""CIFAR-10, unconditional, a variational diffusion model (arXiv:2107.00630, sec. 6 and app. G).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vdm.py --workdir=runs/cifar_vdm

The loss is the variational bound in continuous time, in nats per dimension; the schedule is learned
with it, from the log-SNR 13.3 to -5. Stratified times, AdamW at 2e-4 with decay 0.01, EMA 0.9999,
10 million steps of 128. The network is that of cifar_vp, without the Fourier features of the pixels
that the paper adds. Made for GPU and TPU; no result was measured here.
"""

import ml_collections

from ml_collections_configs import parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(flip=False),
        sde=dict(t_min=1e-5, schedule=dict(name="learned", logsnr_max=13.3, logsnr_min=-5.0)),
        parameterization=dict(c_noise="angle"),
        loss=dict(weight=dict(name="elbo"), draw=dict(name="uniform", stratified=True), bound=True),
        optimizer=dict(weight_decay=0.01),
        train=dict(steps=10_000_000),
    )
