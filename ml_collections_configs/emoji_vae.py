"""Emoji in latents of 8x8x8, factor 4: an autoencoder with KL divergence (arXiv:2112.10752).

python -m diffjax.train --config=configs/emoji_vae.py --workdir=runs/emoji_vae
python -m diffjax.tools.codec runs/emoji_vae --num=325

No result was measured yet.
"""

import ml_collections

from ml_collections_configs import cifar_vae, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        cifar_vae.get_config().to_dict(),
        data=dict(name="emoji", flip=False, labels=False),
        network=dict(multipliers=(1, 2, 4), latent=8),
        optimizer=dict(schedule=dict(name="cosine", length=1500)),
        train=dict(steps=1500, held_out=325),
    )
