"""Inpainting with soft masks, as a guidance that keeps values of an image until their time."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.guidance import Conditional, Guidance, Inpainted
from diffjax.samplers.starts import last_part


def inpainting(
    x0: Float[Array, "b *d"],
    strength: Any,
    times: np.ndarray,
    guidance: Guidance = Conditional(),
) -> Inpainted:
    """Return the guidance for images x0 (B, ...) under a soft mask (arXiv:2306.00950).

    strength: numbers in [0, 1] that broadcast to x0. A value of strength 0 is kept exactly, one of
    strength 1 is sampled, and one between is free in the last `strength` of the steps, as in image
    to image with this strength (`start_from`). times: the grid of the table, from its first row.
    Start from the image noised to the first time (`start_from(sde, x0, times, 1.0, keys)`).

    It is replacement of the prediction, whose samples are not those of the posterior of the free
    values: they know the kept ones at their present noise only.

    >>> soft = inpainting(jnp.zeros((1, 3)), np.array([0, 0.5, 1]), np.linspace(1, 0, 5))
    >>> soft.since.tolist()  # never, from the second half, from the start
    [[-1.0, 0.5, 1.0]]
    """
    checks.samples(x0, "x0")
    strength = np.broadcast_to(np.asarray(strength, np.float64), x0.shape)
    if not ((strength >= 0) & (strength <= 1)).all():
        value = strength[~((strength >= 0) & (strength <= 1))][0]
        raise ValueError(f"strength={value:g}: needs 0 <= strength <= 1")
    levels, place = np.unique(strength, return_inverse=True)
    first = [last_part(times, float(level))[0] if level > 0 else -1.0 for level in levels]
    since = np.asarray(first)[place].reshape(x0.shape)
    return Inpainted(x0, jnp.asarray(since, x0.dtype), guidance)
