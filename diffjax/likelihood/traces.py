"""Estimators of the trace of a Jacobian J from products J v with probes v.

An estimator is a matrix of probes V (k, D) with E[V^T V] = I, so that tr J = E sum_j v_j^T J v_j
(Hutchinson; arXiv:1810.01367, eq. 7). The probes are drawn once per image and kept along the ODE.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.arrays import catalogue
from diffjax.checks import at_least

Probes = Float[Array, "k n"]
Trace = Callable[[Key[Array, ""], int], Probes]
"""`(key, D) -> V`, the probes (k, D) for one image of D values."""


def exact(key: Key[Array, ""], size: int) -> Probes:
    """Return the unit vectors: the trace is exact and takes D products.

    >>> exact(jax.random.key(0), 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return jnp.eye(size)


def rademacher(key: Key[Array, ""], size: int, probes: int = 1) -> Probes:
    """Draw k = `probes` vectors of random signs, k >= 1.

    The variance is 2 sum_(a != b) S_ab^2 / k, where S is the symmetric part of J: 0 for a diagonal
    J.

    >>> jnp.abs(rademacher(jax.random.key(0), 3)).tolist()
    [[1.0, 1.0, 1.0]]
    """
    at_least(1, probes=probes)
    return jax.random.rademacher(key, (probes, size), float) / probes**0.5


def gaussian(key: Key[Array, ""], size: int, probes: int = 1) -> Probes:
    """Draw k = `probes` standard normal vectors, k >= 1.

    The variance is 2 ||S||^2 / k, where S is the symmetric part of J.

    >>> gaussian(jax.random.key(0), 3, probes=2).shape
    (2, 3)
    """
    at_least(1, probes=probes)
    return jax.random.normal(key, (probes, size)) / probes**0.5


def orthogonal(key: Key[Array, ""], size: int, probes: int = 1) -> Probes:
    """Draw k = `probes` orthogonal random vectors, 1 <= k <= D.

    The variance is smaller than that of `gaussian`, and 0 for k = D. Raises ValueError for another
    k.

    >>> v = orthogonal(jax.random.key(0), 2, probes=2)
    >>> print((v.T @ v).round(4) + 0.0)
    [[1. 0.]
     [0. 1.]]
    """
    at_least(1, probes=probes)
    if probes > size:
        raise ValueError(
            f"probes={probes}: {size} dimensions have at most {size} orthogonal vectors"
        )
    return jnp.linalg.qr(jax.random.normal(key, (size, probes)))[0].T * (size / probes) ** 0.5


def probing(key: Key[Array, ""], size: int, probes: int = 4) -> Probes:
    """Multiply random signs by k = `probes` Walsh functions of the index (arXiv:1302.4018).

    Only entries S_ab with a = b mod k, a != b, contribute to the variance, with twice their
    squares. Neighbouring values of an image, whose S_ab are the largest, do not contribute, and for
    k >= D the trace is exact. Raises ValueError unless k is a power of 2.

    >>> v = probing(jax.random.key(0), 4, probes=4)
    >>> (v.T @ v).tolist()[0]  # four probes of four values: the trace is exact
    [1.0, 0.0, 0.0, 0.0]
    """
    at_least(1, probes=probes)
    if probes & (probes - 1):
        raise ValueError(f"probes={probes}: probing needs a power of two")
    common = jnp.bitwise_count(jnp.arange(probes)[:, None] & jnp.arange(size)[None])
    walsh = 1.0 - 2 * (common % 2)
    return walsh * jax.random.rademacher(key, (1, size), float) / probes**0.5


TRACES = catalogue(exact, rademacher, gaussian, orthogonal, probing)
