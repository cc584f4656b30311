"""Which noise meets which item of a batch."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from diffjax.arrays import catalogue


def independent(x0: Float[Array, "b *d"], eps: Float[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Each item has noise of its own."""
    return eps


def optimal_transport(x0: Float[Array, "b *d"], eps: Float[Array, "b *d"]) -> Float[Array, "b *d"]:
    """eps in the order that makes the sum of |x0 - eps|^2 least (arXiv:2302.00482, sec. 3.2.3).

    The paths of flow matching cross less, so few steps do. Exact; O(B^3) one after the other, so
    meant for small batches, or parts. The pairing knows nothing of conditions: noise of
    items with one label is no longer normal, which it is again only as the batch grows.
    """
    flat = [a.reshape(len(a), -1) for a in (x0, eps)]
    cost = -jnp.einsum("id,jd->ij", *flat, precision="highest")
    item, noise = optax.assignment.hungarian_algorithm(cost)
    return eps[noise[jnp.argsort(item)]]


PAIRINGS = catalogue(independent, optimal_transport)
