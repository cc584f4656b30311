"""Emoji in latents of 16x16x4, factor 2: an autoencoder with KL divergence (arXiv:2112.10752).

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
        optimizer=dict(schedule=dict(name="cosine", length=1200)),
        train=dict(
            steps=1200, checkpoint_every=400, sample_every=400, held_out_every=400, held_out=325
        ),
    )
