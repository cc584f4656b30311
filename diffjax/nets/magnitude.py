"""Arrays of unit magnitude (arXiv:2312.02696)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array


def normalize(x: Array, axes: tuple[int, ...], epsilon: float = 1e-4) -> Array:
    """Return x / (epsilon + root mean square of x over the axes), computed in float32 (eq. 66)."""
    size = jnp.sqrt(jnp.mean(x.astype(jnp.float32) ** 2, axes, keepdims=True))
    return x / (epsilon + size).astype(x.dtype)
