"""Compressed sensing: Hadamard and random projections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Shape, Spectrum
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Hadamard:
    """Some coefficients of the orthonormal Walsh-Hadamard transform: (B, ...) -> (B, M).

    The signs of the D values of an item are flipped at random first, so that no coefficient is the
    mean. signs: (D,), 1 or -1. rows: (M,), the coefficients. All singular values are 1.

    >>> pair = Hadamard(jnp.ones(2), jnp.array([0]))
    >>> pair(jnp.array([[1.0, 1.0]])).round(4).tolist()  # (1 + 1) / sqrt(2)
    [[1.414...]]
    """

    signs: Any
    rows: Any
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        flat = x0.reshape(len(x0), -1) * jnp.asarray(self.signs, x0.dtype)[None]
        return transformed(flat)[:, self.rows]

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        return function(jnp.ones((1,) * y.ndim, y.dtype)) * y


def transformed(x: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """Return the orthonormal Walsh-Hadamard transform of x (B, 2^k), which is its own inverse."""
    size = x.shape[1]
    for k in range(size.bit_length() - 1):
        pairs = x.reshape(len(x), -1, 2, 2**k)
        sums = pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]
        x = jnp.stack(sums, 2).reshape(len(x), size)
    return x / math.sqrt(size)


def hadamard(shape: Shape, share: float = 0.25, seed: int = 0) -> Hadamard:
    """Return a random share of the Walsh-Hadamard coefficients of an item.

    share: in (0, 1]. Raises ValueError unless an item has 2^k values.

    >>> hadamard((2, 2, 1), share=0.5)(jnp.ones((3, 2, 2, 1))).shape
    (3, 2)
    """
    checks.within(0, 1, "(]", share=share)
    size = math.prod(shape)
    if size & (size - 1):
        raise ValueError(f"hadamard of items {shape}: needs 2^k values in an item, not {size}")
    rng = np.random.default_rng(checks.seed(seed))
    rows = np.sort(rng.permutation(size)[: max(1, round(share * size))])
    signs = rng.choice([-1.0, 1.0], size)
    return Hadamard(jnp.asarray(signs), jnp.asarray(rows))


@pytree
@dataclass(frozen=True)
class Matrix:
    """A matrix on the flattened item: (B, ...) -> (B, M). matrix: (M, D).

    >>> Matrix(jnp.array([[1.0, 2.0]]))(jnp.array([[3.0, 4.0]])).tolist()
    [[11.0]]
    """

    matrix: Any
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        flat, exact = x0.reshape(len(x0), -1), jax.lax.Precision.HIGHEST
        matrix = jnp.asarray(self.matrix, x0.dtype)
        return jnp.einsum("md,bd->bm", matrix, flat, precision=exact)


def projections(shape: Shape, share: float = 0.25, seed: int = 0) -> Matrix:
    """Return random projections: M rows of independent N(0, 1 / D) numbers, D values in an item.

    share: M / D, in (0, 1]. The operator has no spectrum here: covariances solve their equations by
    conjugate gradients.

    >>> projections((2, 2, 1), share=0.5)(jnp.ones((3, 2, 2, 1))).shape
    (3, 2)
    """
    checks.within(0, 1, "(]", share=share)
    size = math.prod(shape)
    rng = np.random.default_rng(checks.seed(seed))
    rows = max(1, round(share * size))
    return Matrix(jnp.asarray(rng.standard_normal((rows, size)) / math.sqrt(size)))
