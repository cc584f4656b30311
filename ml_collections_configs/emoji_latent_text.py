"""Text to image in the latents of emoji_vae: a small DiT, flow matching, words of captions.

python -m diffjax.train --config=configs/emoji_vae.py --workdir=runs/emoji_vae
python -m diffjax.tools.encode emoji --codec=runs/emoji_vae --out=data/emoji_vae_latents
python -m diffjax.train --config=configs/emoji_latent_text.py --workdir=runs/emoji_latent_text

The network of emoji_text with a token for each of the 8x8 latents; captions travel with the
latents of their images. Then `python -m diffjax.sample --workdir=runs/emoji_latent_text
--prompt="red apple, noto style"`. 4,000 steps of 0.6 s on two free cores: the true image of a
held-out pair ranks at 42 in the median of 1,590, and emoji_text needs 8,000 steps for 51
(experiments/text). The weights are the entries emoji_latents and emoji_vae of the zoo.
"""

import ml_collections

from ml_collections_configs import emoji_text, parts


def get_config() -> ml_collections.ConfigDict:
    return parts.changed(
        emoji_text.get_config().to_dict(),
        data=dict(name="latents:data/emoji_vae_latents", codec="runs/emoji_vae", encoder="words"),
        network=dict(patch=1),
        train=dict(steps=4000),
    )
