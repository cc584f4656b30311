"""Pairings of the noises of a batch with its items."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from diffjax.arrays import catalogue

Pairing = Callable[[Array, Array, Array | None], Array]
"""`(x0, eps, label or None) -> eps`, (B, ...) in another order."""


def independent(
    x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], label: Int[Array, " b"] | None
) -> Float[Array, "b *d"]:
    """Keep the order: the noise of each item is independent of it.

    >>> independent(jnp.array([[0.0], [1.0]]), jnp.array([[0.9], [0.1]]), None).round(1).shape
    (2, 1)
    """
    return eps


def optimal_transport(
    x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], label: Int[Array, " b"] | None
) -> Float[Array, "b *d"]:
    """Permute eps so that the sum of |x0 - eps|^2 is minimal (arXiv:2302.00482, sec. 3.2.3).

    The paths of flow matching then cross less, so that few steps suffice in sampling. The solution
    is exact and takes O(B^3) sequential operations, so it is meant for small batches or parts.
    label: (B,); noise is permuted within the class of its item only. Otherwise the noise of a class
    would not be normal, while sampling starts from normal noise. With about as many classes as
    items the order does not change.

    >>> eps = optimal_transport(jnp.array([[0.0], [4.0]]), jnp.array([[3.0], [1.0]]), None)
    >>> eps.tolist()
    [[1.0], [3.0]]
    """
    flat = [a.reshape(len(a), -1) for a in (x0, eps)]
    cost = -jnp.einsum("id,jd->ij", *flat, precision="highest")
    if label is not None:
        # A pair of two classes costs more than all pairs of one class together.
        apart = label[:, None] != label[None]
        cost = cost + jnp.where(apart, 2 * len(x0) * (1 + jnp.abs(cost).max()), 0)
    item, noise = optax.assignment.hungarian_algorithm(cost)
    return eps[noise[jnp.argsort(item)]]


def stored(
    x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], label: Int[Array, " b"] | None
) -> Float[Array, "b *d"]:
    """Keep the noise that the data hold for each item, in the condition `noise`.

    With x0 = X_{1->0}(eps), the samples of a teacher's ODE, this is reflow (arXiv:2209.03003): the
    paths of flow matching become straight, so that few steps of an ODE sampler suffice.
    `diffjax.tools.pairs` writes such data.

    >>> stored(jnp.array([[0.0], [4.0]]), jnp.array([[3.0], [1.0]]), None).tolist()
    [[3.0], [1.0]]
    """
    return eps


PAIRINGS = catalogue(independent, optimal_transport, stored)
