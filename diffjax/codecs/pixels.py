"""The codec that leaves images as they are."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from diffjax.codecs.base import Codec, Image
from diffjax.io.contents import Contents
from diffjax.io.trees import fingerprint
from diffjax.nets.autoencoder import Autoencoder


def pixels(contents: Contents | None = None, *, rule: str = "", dtype: str = "float32") -> Codec:
    """Return the codec whose latents are the images, without variance.

    It needs no files and ignores `contents` and `dtype`. Raises ValueError for a rule.

    >>> pixels().latent_shape((8, 8, 3))
    (8, 8, 3)
    """
    if rule:
        raise ValueError(f"rule={rule!r}: the codec 'pixels' normalises nothing; leave rule out")
    network = Autoencoder(init=_init, apply=_apply, encode=_encode, decode=_decode)
    return Codec(
        {}, network=network, fingerprint=fingerprint("pixels", {}), about="pixels as they are"
    )


def _init(key: Any, x: Any, c_noise: Any, cond: Any) -> dict[str, Any]:
    return {}


def _encode(params: Any, x: Image) -> tuple[Image, Image]:
    return x, jnp.full_like(x, -jnp.inf)


def _decode(params: Any, z: Image) -> Image:
    return z


def _apply(params: Any, x: Image, c_noise: Any, cond: Any, *, key: Any = None) -> Image:
    return x
