"""Iterative linear algebra in which no sample depends on another one of its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from diffjax.arrays import dims, expand
from diffjax.prediction import Sample

Product = Callable[[Sample], Sample]
"""A symmetric positive semidefinite matrix for each sample, as a function v (B, ...) -> M v."""
DOUBT = 0.01
"""Projection of a residual on the one before it, relative to the first residual, from which the
matrix counts as asymmetric. Rounding leaves about 1e-6 in float32."""


def conjugate_gradients(product: Product, b: Sample, iterations: int) -> Sample:
    """Solve M v = b from v = 0 by conjugate gradients, in at most `iterations` products.

    Each sample has its own step sizes, and stops where its residual is 0 up to rounding. For b in
    the range of a singular M the result approaches the solution of least norm. Source: Hestenes and
    Stiefel, 1952.

    >>> conjugate_gradients(lambda v: jnp.array([[2.0, 4.0]]) * v, jnp.ones((1, 2)), 2).tolist()
    [[0.5, 0.25]]
    """
    return guarded_gradients(product, 0.0, b, iterations, jnp.full(len(b), jnp.inf, b.dtype))


def guarded_gradients(
    product: Product, noise: Array | float, b: Sample, iterations: int, limit: Float[Array, " b"]
) -> Sample:
    """Solve (M + noise) v = b as `conjugate_gradients` does, where M may fail to be a covariance.

    M comes from the Jacobian of a network, which may be neither symmetric nor positive
    semidefinite. A sample keeps its v where p^T M p <= 0 along the next direction p, whatever the
    noise is (the truncation of Steihaug, SIAM J. Numer. Anal. 1983). Directions of a small positive
    curvature would still lead far away. Therefore, once M has shown that it is not positive, or not
    symmetric by two successive residuals that are not orthogonal, the result is the v on the way at
    which b^T v, which increases in each iteration, reaches `limit`. For a symmetric positive
    semidefinite M neither applies, and the result is that of conjugate gradients.

    noise: >= 0, broadcasts against b. limit: (B,), > 0.
    """
    size = _dot(b, b)
    least, doubt = jnp.finfo(b.dtype).eps ** 2 * size, DOUBT * jnp.sqrt(size)

    def step(_: int, state: _State) -> _State:
        v, within, total, residual, direction, squared, odd = state
        image = product(direction)
        going = squared > least
        bent = going & ~(_dot(direction, image) > 0)
        going = going & ~bent
        image = image + noise * direction
        curvature = _dot(direction, image)
        length = _ratio(squared, curvature, going)
        gain = length * squared
        share = jnp.clip(_ratio(limit - total, gain, gain > 0), 0, 1)
        within = within + expand(share * length, b) * direction
        v = v + expand(length, b) * direction
        before, residual = residual, residual - expand(length, b) * image
        after = _dot(residual, residual)
        skew = jnp.abs(_dot(residual, before)) > doubt * jnp.sqrt(squared)
        turned = residual + expand(_ratio(after, squared, going), b) * direction
        squared = jnp.where(going, after, 0)
        return _State(v, within, total + gain, residual, turned, squared, odd | bent | skew & going)

    none = jnp.zeros_like(b)
    start = _State(none, none, jnp.zeros_like(size), b, b, size, jnp.zeros(len(b), bool))
    end = jax.lax.fori_loop(0, iterations, step, start)
    return jnp.where(expand(end.odd, b), end.within, end.v)


class _State(NamedTuple):
    """Conjugate gradients on the way.

    v, within: the iterates without and with the limit. total: b^T v. squared: |residual|^2, 0 once
    a sample has stopped. odd: whether M has shown that it is no covariance.
    """

    v: Sample
    within: Sample
    total: Float[Array, " b"]
    residual: Sample
    direction: Sample
    squared: Float[Array, " b"]
    odd: Bool[Array, " b"]


def root(product: Product, z: Sample, iterations: int) -> Sample:
    """Return M^(1/2) z by the Lanczos method, in `iterations` products.

    It is exact, up to rounding, once `iterations` reaches the number of different eigenvalues of M.
    Eigenvalues below 0, which the symmetric part of a network's Jacobian may have, count as 0.
    Source: arXiv:0809.2241.
    """
    flat = z.reshape(len(z), -1)
    count = min(iterations, flat.shape[1])
    times = lambda v: product(v.reshape(z.shape)).reshape(flat.shape)
    length = jnp.sqrt(_dot(flat, flat))
    basis = jnp.zeros((count, *flat.shape), z.dtype)
    first = flat * _ratio(jnp.ones_like(length), length, length > 0)[:, None]
    exact = jax.lax.Precision.HIGHEST

    def step(k: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, small, v = state
        basis = basis.at[k].set(v)
        image = times(v)
        # The projections on all earlier vectors, not only on two: rounding loses orthogonality.
        along = jnp.einsum("kbn,bn->bk", basis, image, precision=exact)
        small = small.at[:, k].set(along)
        for _ in range(2):
            shares = jnp.einsum("kbn,bn->kb", basis, image, precision=exact)
            image = image - jnp.einsum("kb,kbn->bn", shares, basis, precision=exact)
        size = jnp.sqrt(_dot(image, image))
        scale = jnp.abs(along).max(1)
        going = size > 100 * jnp.finfo(z.dtype).eps * scale
        return basis, small, image * _ratio(jnp.ones_like(size), size, going)[:, None]

    small = jnp.zeros((len(z), count, count), z.dtype)
    basis, small, _ = jax.lax.fori_loop(0, count, step, (basis, small, first))
    # Row k of `small` holds the projections on the vectors up to k; the rest follows by symmetry.
    lower = jnp.tril(small)
    values, vectors = jnp.linalg.eigh(lower + jnp.tril(small, -1).swapaxes(1, 2))
    roots = jnp.sqrt(jnp.maximum(values, 0))
    shares = jnp.einsum("bij,bj,bj->bi", vectors, roots, vectors[:, 0], precision=exact)
    result = length[:, None] * jnp.einsum("bk,kbn->bn", shares, basis, precision=exact)
    return result.reshape(z.shape)


def _dot(a: Sample, b: Sample) -> Float[Array, " b"]:
    return (a * b).sum(dims(a))


def _ratio(a: Array, b: Array, where: Array) -> Array:
    """Return a / b, and 0 except in `where`."""
    return jnp.where(where, a / jnp.where(where, b, 1), 0)
