"""Convolution with kernels of side 3 by Winograd's algorithm F(2, 3) (arXiv:1509.09308, sec. 4).

Two neighbouring outputs of three taps take six products, or four of sums of inputs with sums of
taps. Over two axes that leaves 4 / 9 of the multiplications, all of them in products of matrices.
The value is the same; its rounding error is less than four times that of the plain sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

CACHED = 2**21
"""Numbers of what is in between, at most."""


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c f"],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "b i j f"]:
    """The convolution of x (B, H, W, C) with kernel (3, 3, C, F), padded by these pairs.

    A few samples per device after the other, so that what is in between stays in a CPU's cache.
    """
    c, f = kernel.shape[2:]
    height, width = (n + lo + hi - 2 for n, (lo, hi) in zip(x.shape[1:3], padding, strict=True))
    odd = (height % 2, width % 2)
    pads = [(lo, hi + more, 0) for (lo, hi), more in zip(padding, odd, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    taps = _taps(_taps(kernel).swapaxes(0, 1)).reshape(16, c, f)

    def samples(x: Array) -> Array:
        places = _places(_places(x, 1), 3)  # (4, 4, n, H / 2, W / 2, C): of W, of H
        each = (((2,), (1,)), ((0,), (0,)))
        made = lax.dot_general(places.reshape(16, -1, c), taps, each)
        return _values(_values(made.reshape(*places.shape[:-1], f), 3), 1)

    # A batch that is split over devices is split along the first of these three axes.
    devices = math.gcd(len(x), jax.device_count())
    few = max(1, CACHED // (4 * math.prod(x.shape[1:])))
    few = max(n for n in range(1, few + 1) if len(x) // devices % n == 0)
    parts = x.reshape(devices, -1, few, *x.shape[1:]).swapaxes(0, 1)
    made = lax.map(samples, parts.reshape(len(parts), -1, *x.shape[1:]))
    made = made.reshape(-1, devices, few, *made.shape[2:]).swapaxes(0, 1)
    return made.reshape(-1, *made.shape[3:])[:, :height, :width]


def _places(a: Array, axis: int) -> Array:
    """Sums of the four inputs that each pair of outputs along `axis` sees: (4, ...)."""
    last = a.shape[axis] - 1
    a0, a1, a2, a3 = (lax.slice_in_dim(a, i, last - 2 + i, 2, axis) for i in range(4))
    return jnp.stack([a0 - a2, a1 + a2, a2 - a1, a1 - a3])


def _taps(kernel: Array) -> Array:
    """Sums of the three taps along the first axis: (4, ...)."""
    w0, w1, w2 = kernel
    return jnp.stack([w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2])


def _values(products: Array, axis: int) -> Array:
    """Pairs of outputs from the four products (4, ...), in one row along `axis` of the rest."""
    a, b, c, d = products
    pairs = jnp.stack([a + b + c, b - c - d], axis + 1)
    return pairs.reshape(*a.shape[:axis], -1, *a.shape[axis + 1 :])
