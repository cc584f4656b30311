"""CIFAR-10 in latents of 16x16x4, factor 2: an autoencoder with KL divergence (arXiv:2112.10752).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vae.py --workdir=runs/cifar_vae
TFDS_DATA_DIR=... python -m diffjax.tools.codec runs/cifar_vae --num=2000

Factor 4 is `--config.network.multipliers=(1,2,4)`, a discriminator for the second half of training
`--config.loss.adversarial_weight=0.5 --config.loss.adversarial_start=1250
--config.loss.discriminator.layers=2`. Sized for CPU cores; no result was measured yet.
"""

import ml_collections

from ml_collections_configs import digits_vae, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        digits_vae.get_config().to_dict(),
        data=dict(name="tfds:cifar10", flip=True, labels=False),
        network=dict(latent=4),
        loss=dict(kl_weight=0.01),
        optimizer=dict(schedule=dict(name="cosine", length=2500)),
        train=dict(
            steps=2500,
            batch_size=16,
            sample_every=500,
            checkpoint_every=500,
            held_out_every=500,
            held_out=200,
            samples=64,
        ),
    )
