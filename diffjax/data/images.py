"""Pixels to numbers and back: uint8 0 to 255 is float [-1, 1]."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


def to_float(x: Shaped[Array, "b *d"]) -> Float[Array, "b *d"]:
    """uint8 images to float32 in [-1, 1]; float data as they are. Runs on the device."""
    return x.astype(jnp.float32) / 127.5 - 1 if x.dtype == jnp.uint8 else x


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Float images, [-1, 1] and beyond, to the nearest uint8."""
    return np.clip(np.round((np.asarray(x) + 1) * 127.5), 0, 255).astype(np.uint8)
