"""Convolution with kernels of side 3 in fewer multiplications, by Winograd's algorithm.

Two neighbouring outputs of three taps take six multiplications, or four of sums of inputs by sums
of taps: F(2, 3) of arXiv:1509.09308, sec. 4. Three suffice where the inputs come in pairs of equal
values, as after nearest-neighbour upsampling. Over two axes this leaves 4 / 9 and 1 / 4 of the
multiplications, all of them in matrix products. The results are equal up to rounding, whose error
is less than four times that of the plain sum.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

PAIRS = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
EQUALS = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 1]])
"""The sums of three taps that are multiplied, one row each, for F(2, 3) and for pairs of equals."""


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c f"],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "b i j f"]:
    """Convolve x (B, H, W, C) with kernel (3, 3, C, F), without strides.

    padding: pairs (low, high) for H and W. Returns (B, I, J, F) with I = H + low + high - 2, and J
    likewise.
    """
    # Outputs are computed in pairs: one more zero makes their number even and is cut off below.
    height, width = (n + lo + hi - 2 for n, (lo, hi) in zip(x.shape[1:3], padding, strict=True))
    odd = (height % 2, width % 2)
    pads = [(lo, hi + more, 0) for (lo, hi), more in zip(padding, odd, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    # Each call handles axis 2 and puts a new axis in front, so the next one meets W there.
    places = _places(_places(x, 2), 2)  # (4, 4, B, H / 2, W / 2, C)
    values = _values(_values(_products(places, _taps(PAIRS, kernel)), 2), 2)
    return values[:, :height, :width]


def convolve_equals(x: Float[Array, "b *d c"], kernel: Float[Array, "*k c f"]) -> Array:
    """Convolve, to the same size, x (B, *D, C) upsampled by repeating each value along each axis.

    kernel: (3, ..., 3, C, F). Returns (B, *2D, F). At a value b between a and c the two outputs are
    w0 a + (w1 + w2) b and (w0 + w1) b + w2 c, that is w0 (a - b) and w2 (c - b), each plus (w0 + w1
    + w2) b: three products, of which both outputs share one.
    """
    n = x.ndim - 2
    for _ in range(n):  # the last axis first: stacking in front moves the next one to place n
        wide = jnp.pad(x, [(int(i == n),) * 2 for i in range(x.ndim)])
        a, b, c = (lax.slice_in_dim(wide, i, i + x.shape[n], axis=n) for i in range(3))
        x = jnp.stack([a - b, b, c - b])
    products = _products(x, _taps(EQUALS, kernel))
    for _ in range(n):
        left, middle, right = products
        products = _woven([left + middle, middle + right], n)
    return products


def _places(a: Array, axis: int) -> Array:
    """Return the four sums of inputs for each pair of outputs along `axis`, (4, ...).

    A pair sees four inputs and pairs overlap by two, hence the stride of 2.
    """
    last = a.shape[axis] - 1
    a0, a1, a2, a3 = (lax.slice_in_dim(a, i, last - 2 + i, 2, axis) for i in range(4))
    return jnp.stack([a0 - a2, a1 + a2, a2 - a1, a1 - a3])


def _taps(sums: np.ndarray, kernel: Array) -> Array:
    """Return the sums of taps (P, C, F) of kernel (*K, C, F), along all of its axes."""
    *sides, c, f = kernel.shape
    # The transform of several axes is the Kronecker product of those of single axes: one product.
    every = jnp.asarray(functools.reduce(np.kron, [sums] * len(sides)), kernel.dtype)
    return (every @ kernel.reshape(-1, c * f)).reshape(-1, c, f)


def _products(places: Array, taps: Array) -> Array:
    """Multiply places (*P, B, *D, C) by their taps (prod P, C, F) in one batched matrix product."""
    each = (((2,), (1,)), ((0,), (0,)))
    products = lax.dot_general(places.reshape(len(taps), -1, places.shape[-1]), taps, each)
    return products.reshape(*places.shape[:-1], -1)


def _values(products: Array, axis: int) -> Array:
    """Return the outputs from the four products (4, ...), pairs interleaved along `axis`."""
    a, b, c, d = products
    return _woven([a + b + c, b - c - d], axis)


def _woven(pair: list[Array], axis: int) -> Array:
    """Interleave two arrays along `axis`."""
    shape = pair[0].shape
    return jnp.stack(pair, axis + 1).reshape(*shape[:axis], -1, *shape[axis + 1 :])
