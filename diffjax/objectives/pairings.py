"""Which noise meets which item of a batch."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from diffjax.arrays import catalogue

Pairing = Callable[[Array, Array, Array | None], Array]
"""(x0, eps, label or None) -> eps (B, ...) in another order."""


def independent(
    x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], label: Int[Array, " b"] | None
) -> Float[Array, "b *d"]:
    """Each item has noise of its own."""
    return eps


def optimal_transport(
    x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], label: Int[Array, " b"] | None
) -> Float[Array, "b *d"]:
    """eps in the order that makes the sum of |x0 - eps|^2 least (arXiv:2302.00482, sec. 3.2.3).

    The paths of flow matching cross less, so few steps do. Exact; O(B^3) one after the other, so
    meant for small batches, or parts. label: noise stays with the class of the item that it was
    drawn for, and is paired within it; otherwise the noise of a class would not be normal, as the
    noise is with which its sampling begins. With about as many classes as items nothing changes.
    """
    flat = [a.reshape(len(a), -1) for a in (x0, eps)]
    cost = -jnp.einsum("id,jd->ij", *flat, precision="highest")
    if label is not None:
        # A pair of two classes costs more than all pairs of one class together.
        apart = label[:, None] != label[None]
        cost = cost + jnp.where(apart, 2 * len(x0) * (1 + jnp.abs(cost).max()), 0)
    item, noise = optax.assignment.hungarian_algorithm(cost)
    return eps[noise[jnp.argsort(item)]]


PAIRINGS = catalogue(independent, optimal_transport)
