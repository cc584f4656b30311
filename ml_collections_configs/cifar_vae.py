"""CIFAR-10 in latents of 8x8x4, factor 4: an autoencoder with KL divergence (arXiv:2112.10752).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vae.py --workdir=runs/cifar_vae
TFDS_DATA_DIR=... python -m diffjax.tools.codec runs/cifar_vae --num=10000

Factor 2 is `--config.network.multipliers=(1,2)`, a discriminator for the second half of training
`--config.loss.adversarial_weight=0.5 --config.loss.adversarial_start=15000
--config.loss.discriminator.layers=2`. Sized for CPU cores; no result was measured yet.
"""

import ml_collections

from ml_collections_configs import digits_vae, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vae.get_config().to_dict(),
        data=dict(name="tfds:cifar10", flip=True, labels=False),
        network=dict(channels=16, multipliers=(1, 2, 4), latent=4),
        loss=dict(kl_weight=0.01),
        train=dict(
            steps=30_000,
            batch_size=32,
            steps_per_dispatch=10,
            log_every=50,
            sample_every=1000,
            checkpoint_every=500,
            held_out_every=1000,
            held_out=200,
            samples=64,
        ),
    )
