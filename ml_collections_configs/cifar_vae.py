"""CIFAR-10 in latents of 16x16x4, factor 2: an autoencoder with KL divergence (arXiv:2112.10752).

TFDS_DATA_DIR=... python -m diffjax.train --config=configs/cifar_vae.py --workdir=runs/cifar_vae
TFDS_DATA_DIR=... python -m diffjax.tools.codec runs/cifar_vae --num=2000

159 thousand parameters; 5.4 minutes of CPU time of one core, compilation and reading included, at
0.113 s a step. On 2,000 test images: PSNR 35.7 dB, SSIM 0.979, Frechet distance of pixels 0.99
times the floor; latents of 5.7 nats per value (images: a JPEG copy of quality 75).

Factor 4 is `--config.network.multipliers=(1,2,4)`, a discriminator for the second half of training
`--config.loss.adversarial_weight=0.5 --config.loss.adversarial_start=1250
--config.loss.discriminator.layers=2`. experiments/latent measures networks in these latents.
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
