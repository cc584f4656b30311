"""How the difference of an output and its target counts, value by value."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import catalogue
from diffjax.weights import positive


def l2(difference: Float[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Squares."""
    return difference**2


def l1(difference: Float[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Absolute values: the network learns a median."""
    return jnp.abs(difference)


def huber(difference: Float[Array, "b *d"], delta: float = 1.0) -> Float[Array, "b *d"]:
    """Squares up to delta, then their tangent: 2 delta |d| - delta^2."""
    positive(delta=delta)
    size = jnp.abs(difference)
    return jnp.where(size < delta, difference**2, 2 * delta * size - delta**2)


def pseudo_huber(difference: Float[Array, "b *d"], c: float = 0.03) -> Float[Array, "b *d"]:
    """2 c (sqrt(d^2 + c^2) - c): d^2 if small, else 2 c |d| (arXiv:2310.14189, eq. 8)."""
    positive(c=c)
    return 2 * c * (difference**2 / (jnp.sqrt(difference**2 + c**2) + c))


ERRORS = catalogue(l2, l1, huber, pseudo_huber)
