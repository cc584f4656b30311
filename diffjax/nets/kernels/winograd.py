"""Convolution with kernels of side 3 in fewer products, by Winograd's algorithm and one like it.

Two neighbouring outputs of three taps take six products, or four of sums of inputs with sums of
taps: F(2, 3) of arXiv:1509.09308, sec. 4. Three are enough where inputs come in pairs of equals.
Over two axes that leaves 4 / 9 and 1 / 4 of the multiplications, all in products of matrices.
The values are the same; the rounding error is less than four times that of the plain sum.
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
"""Which sums of three taps go into the products."""


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c f"],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "b i j f"]:
    """The convolution of x (B, H, W, C) with kernel (3, 3, C, F), padded by these pairs."""
    height, width = (n + lo + hi - 2 for n, (lo, hi) in zip(x.shape[1:3], padding, strict=True))
    odd = (height % 2, width % 2)
    pads = [(lo, hi + more, 0) for (lo, hi), more in zip(padding, odd, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    places = _places(_places(x, 2), 2)  # (4, 4, B, H / 2, W / 2, C): of H, of W
    values = _values(_values(_products(places, _taps(PAIRS, kernel)), 2), 2)
    return values[:, :height, :width]


def convolve_equals(x: Float[Array, "b *d c"], kernel: Float[Array, "*k c f"]) -> Array:
    """The convolution, to the same size, of x with each value twice along each axis.

    At b, which lies between a and c, the two outputs are w0 a + (w1 + w2) b and (w0 + w1) b + w2 c,
    that is w0 (a - b) and w2 (c - b), each plus (w0 + w1 + w2) b.
    """
    n = x.ndim - 2
    for _ in range(n):  # the last axis first: it is in place n, each time
        wide = jnp.pad(x, [(int(i == n),) * 2 for i in range(x.ndim)])
        a, b, c = (lax.slice_in_dim(wide, i, i + x.shape[n], axis=n) for i in range(3))
        x = jnp.stack([a - b, b, c - b])
    products = _products(x, _taps(EQUALS, kernel))
    for _ in range(n):
        left, middle, right = products
        products = _woven([left + middle, middle + right], n)
    return products


def _places(a: Array, axis: int) -> Array:
    """Sums of the four inputs that each pair of outputs along `axis` sees: (4, ...)."""
    last = a.shape[axis] - 1
    a0, a1, a2, a3 = (lax.slice_in_dim(a, i, last - 2 + i, 2, axis) for i in range(4))
    return jnp.stack([a0 - a2, a1 + a2, a2 - a1, a1 - a3])


def _taps(sums: np.ndarray, kernel: Array) -> Array:
    """The products' factors (P, C, F): sums of the taps along each axis of kernel (*K, C, F)."""
    *sides, c, f = kernel.shape
    every = jnp.asarray(functools.reduce(np.kron, [sums] * len(sides)), kernel.dtype)
    return (every @ kernel.reshape(-1, c * f)).reshape(-1, c, f)


def _products(places: Array, taps: Array) -> Array:
    """Places (*P, B, *D, C) times their taps (prod P, C, F), in one product of many matrices."""
    each = (((2,), (1,)), ((0,), (0,)))
    products = lax.dot_general(places.reshape(len(taps), -1, places.shape[-1]), taps, each)
    return products.reshape(*places.shape[:-1], -1)


def _values(products: Array, axis: int) -> Array:
    """Pairs of outputs from the four products (4, ...), in one row along `axis` of the rest."""
    a, b, c, d = products
    return _woven([a + b + c, b - c - d], axis)


def _woven(pair: list[Array], axis: int) -> Array:
    """Two arrays as one, in turn along `axis`."""
    shape = pair[0].shape
    return jnp.stack(pair, axis + 1).reshape(*shape[:axis], -1, *shape[axis + 1 :])
