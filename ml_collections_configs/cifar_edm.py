"""CIFAR-10, unconditional, EDM (arXiv:2206.00364, tab. 1 and 7).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_edm.py --workdir=runs/cifar_edm

Preconditioning with sigma_data = 0.5, log-normal noise levels (-1.2, 1.2), Adam at 1e-3, dropout
0.13, 400,000 steps of 512 images (200 Mimg); Heun on the rho = 7 grid from 80 to 0.002 with 18
steps: t is linear in sigma^(1/7). The network is EDM's DDPM++ (55.7 M parameters) with its
augmentation (p = 0.12); the EMA has EDM's half-life of 500,000 images, ramped up, and the learning
rate its warm-up of 10 million images. Made for GPU and TPU: compiled for 8 H100 in bfloat16, the
step needs 5.0 GB on each (docs/devices.md). No result was measured here.
"""

import ml_collections

from ml_collections_configs import networks, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.cifar(
        data=dict(flip=False, augment=dict(name="affine", p=0.12)),
        sde=dict(name="ve", t_min=1e-9, t_max=1.0, schedule=dict(name="karras")),
        parameterization=dict(name="edm", sigma_data=0.5, c_noise="quarter_log_sigma"),
        network=networks.DDPMPP,
        loss=dict(weight=dict(name="edm", sigma_data=0.5), draw=dict(name="log_normal")),
        optimizer=dict(name="adam", learning_rate=1e-3, warmup=10_000_000, in_images=True),
        ema=dict(name="half_life", images=500_000.0, ramp=0.05),
        sampling=dict(sampler=dict(name="heun"), steps=18),
        train=dict(steps=400_000, batch_size=512),
    )
