"""ImageNet at 256 x 256 to latents of 32x32x4, factor 8: the autoencoder of latent diffusion.

python -m diffjax.train --config=configs/imagenet256_vae.py --workdir=runs/imagenet_vae \
    --config.data.name=folder:imagenet

The network of Stable Diffusion 1 (83.7 M parameters) with the loss of arXiv:2112.10752, app. G, and
its code: L1 and LPIPS with a learned scale, KL divergence times 1e-6, and from step 50,001 on a
PatchGAN with group norms in place of batch norms. LPIPS downloads the weights of VGG-16, or reads
them with --config.loss.perceptual=lpips:net=vgg,weights=FILE,linear=FILE. Made for GPUs or TPUs; no
result was measured here.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="folder:imagenet", size=256, flip=True, labels=False),
            network=dict(
                name="autoencoder",
                channels=128,
                multipliers=(1, 2, 4, 4),
                blocks=2,
                latent=4,
                attention=True,
                quantised=True,
                dtype="bfloat16",
            ),
            loss=dict(
                name="autoencoding",
                error=dict(name="l1"),
                perceptual=dict(name="lpips", net="vgg"),
                perceptual_weight=1.0,
                kl_weight=1e-6,
                adversarial_weight=0.5,
                adversarial_start=50_001,
                discriminator=dict(name="patch_gan", channels=64, layers=3),
            ),
            optimizer=dict(
                name="adamw", learning_rate=1e-4, warmup=1000, b1=0.5, b2=0.9, clip=None
            ),
            ema=dict(name="constant", decay=0.9999),
            train=dict(
                steps=400_000,
                batch_size=64,
                log_every=100,
                sample_every=5_000,
                checkpoint_every=5_000,
                held_out_every=5_000,
                held_out=1_000,
                samples=16,
            ),
        )
    )
