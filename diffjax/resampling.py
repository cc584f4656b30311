"""Resampling along axes by a product with one matrix per axis, with antialiasing."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from diffjax.arrays import catalogue
from diffjax.checks import one_of


def area(x: np.ndarray) -> np.ndarray:
    """Return the box kernel: block averages where pixels grow, repetition where they shrink.

    >>> area(np.array([-0.4, 0.5, 0.6])).tolist()
    [1.0, 1.0, 0.0]
    """
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def bilinear(x: np.ndarray) -> np.ndarray:
    """Return the triangle kernel.

    >>> bilinear(np.array([0.0, 0.25, 1.5])).tolist()
    [1.0, 0.75, 0.0]
    """
    return np.maximum(1 - np.abs(x), 0)


def bicubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic kernel with the slope -1/2 at distance 1, as Pillow has it.

    >>> bicubic(np.array([0.0, 0.5, 1.5])).tolist()
    [1.0, 0.5625, -0.0625]
    """
    return keys(x, -0.5)


KERNELS = catalogue(area, bilinear, bicubic)


def keys(x: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' cubic kernel with slope `a` at distance 1.

    Source: doi:10.1109/TASSP.1981.1163711, eq. 4.
    """
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@functools.lru_cache(64)
def matrix(kernel: str, n: int, size: int) -> Float[np.ndarray, "size n"]:
    """Return the matrix (size, n) in float64 that resamples n values to `size` values.

    Pixels are aligned at their outer edges. Where the new pixels are larger, the kernel is as wide
    as they are (antialiasing). Weights beyond the edges are left out, and each row has the sum 1,
    as in Pillow. kernel: an entry of `KERNELS`. Raises ValueError for another kernel.

    >>> matrix("area", 4, 2).tolist(), matrix("bilinear", 2, 4)[1].tolist()
    ([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]], [0.75, 0.25])
    """
    one_of(KERNELS, kernel=kernel)
    wide = max(n / size, 1)
    apart = (np.arange(n) + 0.5 - (np.arange(size)[:, None] + 0.5) * n / size) / wide
    weights = KERNELS[kernel](apart)
    return weights / weights.sum(1, keepdims=True)


def resampled(x: np.ndarray, sides: Mapping[int, int], kernel: str) -> np.ndarray:
    """Return an array resampled along some axes, in its own type of floats.

    sides: the new number of values by axis.

    >>> resampled(np.arange(8.0).reshape(1, 2, 4, 1), {1: 1, 2: 2}, "area").ravel().tolist()
    [2.5, 4.5]
    """
    for axis, size in sides.items():
        weights = matrix(kernel, x.shape[axis], size).astype(x.dtype)
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return np.ascontiguousarray(x)
