"""8x8 digits in latents of 4x4x2: an autoencoder with KL divergence (arXiv:2112.10752).

python -m diffjax.train --config=configs/digits_vae.py --workdir=runs/digits_vae
python -m diffjax.tools.codec runs/digits_vae

155 thousand parameters. On the 297 test digits: PSNR 30.0 dB, SSIM
0.98, Frechet distance of pixels 0.9 times the floor; latents of 3.6 nats per value.
digits_latent_dit trains on the latents.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            data=dict(name="digits", labels=False),
            network=dict(
                name="autoencoder",
                channels=16,
                multipliers=(1, 2),
                blocks=1,
                latent=2,
                attention=False,
                groups=8,
            ),
            loss=dict(name="autoencoding", error=dict(name="l1"), kl_weight=0.1),
            optimizer=dict(
                name="adamw", learning_rate=2e-3, warmup=100, clip=None, rates={"log_scale": 10.0}
            ),
            ema=dict(name="constant", decay=0.995),
            train=dict(
                steps=1500,
                batch_size=64,
                steps_per_dispatch=10,
                log_every=50,
                sample_every=750,
                checkpoint_every=500,
                held_out_every=500,
                held_out=297,
                samples=64,
            ),
        )
    )
