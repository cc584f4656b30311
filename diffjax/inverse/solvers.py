"""Iterative linear algebra in which no sample depends on another one of its batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import dims, expand
from diffjax.prediction import Sample

Product = Callable[[Sample], Sample]
"""A symmetric positive semidefinite matrix for each sample, as a function v (B, ...) -> M v."""


def conjugate_gradients(product: Product, b: Sample, iterations: int) -> Sample:
    """Solve M v = b from v = 0 by conjugate gradients, in at most `iterations` products.

    Each sample has its own step sizes, and stops where its residual is 0 up to rounding. For b in
    the range of a singular M the result approaches the solution of least norm. Source: Hestenes and
    Stiefel, 1952.
    """
    least = jnp.finfo(b.dtype).eps ** 2 * _dot(b, b)

    def step(_: int, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        v, residual, direction, squared = state
        image = product(direction)
        curvature = _dot(direction, image)
        # A Jacobian of a network is positive semidefinite only about; no step along a direction of
        # negative curvature.
        going = (squared > least) & (curvature > 0)
        size = expand(_ratio(squared, curvature, going), b)
        v, residual = v + size * direction, residual - size * image
        after = _dot(residual, residual)
        turn = expand(_ratio(after, squared, going), b)
        return v, residual, residual + turn * direction, jnp.where(going, after, 0)

    return jax.lax.fori_loop(0, iterations, step, (jnp.zeros_like(b), b, b, _dot(b, b)))[0]


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
