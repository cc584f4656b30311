"""A codec of grey images without loss, and a network of latents, which tests name in configs."""

import jax.numpy as jnp
import numpy as np

from diffjax.codecs import Codec, Normalisation
from diffjax.nets.autoencoder import Autoencoder
from diffjax.nets.network import Network

SHAPE = (4, 4, 4)
HAAR = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32) / 2


def fold(params, x):
    """Encode patches of 2 x 2 grey pixels as 4 channels without loss, with the deviation 0.1."""
    b, h, w, _ = x.shape
    patches = x.reshape(b, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 2, 4)
    mean = patches.reshape(b, h // 2, w // 2, 4) @ params["haar"]
    return mean, jnp.full_like(mean, 2 * jnp.log(0.1))


def unfold(params, z):
    b, h, w, _ = z.shape
    patches = (z @ params["haar"].T).reshape(b, h, w, 2, 2)
    return patches.transpose(0, 1, 3, 2, 4).reshape(b, 2 * h, 2 * w, 1)


def codec(fingerprint: str = "haar") -> Codec:
    """Return a codec of grey images without loss, as a config names it."""
    return Codec(
        {"haar": jnp.asarray(HAAR)},
        Normalisation(0.5, jnp.array([1.0, 0.5, 0.5, 0.25])),
        network=Autoencoder(
            init=lambda *_: {}, apply=unfold, encode=fold, decode=unfold, factor=2, latent=4
        ),
        fingerprint=fingerprint,
        about="Haar of 2 x 2 pixels",
    )


def linear(conditions=()) -> Network:
    """Return a network of one number, which compiles in no time and ignores conditions."""
    return Network(
        init=lambda *_: {"scale": jnp.ones(())},
        apply=lambda params, x, c_noise, cond, *, key=None: params["scale"] * x,
    )
