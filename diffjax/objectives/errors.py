"""Error functions: the loss of the difference between an output and its target, per value."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import catalogue
from diffjax.weights import positive


def l2(difference: Float[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Return squared errors, whose minimiser is the mean.

    >>> l2(jnp.array([[0.5, -3.0]])).tolist()
    [[0.25, 9.0]]
    """
    return difference**2


def l1(difference: Float[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Return absolute errors, whose minimiser is a median.

    >>> l1(jnp.array([[0.5, -3.0]])).tolist()
    [[0.5, 3.0]]
    """
    return jnp.abs(difference)


def huber(difference: Float[Array, "b *d"], delta: float = 1.0) -> Float[Array, "b *d"]:
    """Return d^2 for |d| < delta, and its tangent 2 delta |d| - delta^2 beyond; delta > 0.

    >>> huber(jnp.array([[0.5, -3.0]]), delta=1.0).tolist()
    [[0.25, 5.0]]
    """
    positive(delta=delta)
    size = jnp.abs(difference)
    return jnp.where(size < delta, difference**2, 2 * delta * size - delta**2)


def pseudo_huber(difference: Float[Array, "b *d"], c: float = 0.03) -> Float[Array, "b *d"]:
    """Return 2 c (sqrt(d^2 + c^2) - c), c > 0 (arXiv:2310.14189, eq. 8).

    It is about d^2 for |d| much smaller than c, and about 2 c |d| for larger ones.

    >>> pseudo_huber(jnp.array([[0.75, 0.0]]), c=1.0).tolist()
    [[0.5, 0.0]]
    """
    positive(c=c)
    return 2 * c * (difference**2 / (jnp.sqrt(difference**2 + c**2) + c))


ERRORS = catalogue(l2, l1, huber, pseudo_huber)
