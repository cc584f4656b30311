"""Resampling of grids with any number of axes to half or twice their sides.

The filter is symmetric and sees zeros outside of the grid. It is computed as sums of slices along
one axis after the other, which is as fast inside a compiled loop as outside, on CPU as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Kernel = tuple[int, ...]


def check_kernel(kernel: Sequence[int]) -> Kernel:
    """Return the kernel as a tuple.

    Raises ValueError unless its length is even, it is symmetric and its sum is positive.
    """
    kernel = tuple(kernel)
    if len(kernel) % 2 or kernel != kernel[::-1] or not sum(kernel) > 0:
        raise ValueError(f"kernel={kernel}: needs even length, symmetry and a positive sum")
    return kernel


def filtered(
    x: Float[Array, "b *d c"], kernel: Kernel, stride: int, pad: int
) -> Float[Array, "b *e c"]:
    """Return y_i = sum_k f_k x_(stride i + k - pad) along every axis, for f = kernel / its sum."""
    for axis in range(1, x.ndim - 1):
        wide = _padded(x, axis, pad)
        span = wide.shape[axis] - len(kernel) + 1
        part = lambda k, wide=wide, axis=axis, span=span: lax.slice_in_dim(
            wide, k, k + span, stride, axis
        )
        x = _sum(kernel, [(k, part(k)) for k in range(len(kernel))], 1 / sum(kernel))
    return x


def downsample(x: Float[Array, "b *d c"], kernel: Kernel = (1, 1)) -> Float[Array, "b *e c"]:
    """Return x at half its sides.

    The kernel (1, 1) averages pairs, (1, 3, 3, 1) is a smooth filter (arXiv:1904.11486).
    """
    return filtered(x, kernel, 2, len(kernel) // 2 - 1)


def upsample(x: Float[Array, "b *d c"], kernel: Kernel = (1, 1)) -> Float[Array, "b *e c"]:
    """Return x at twice its sides: the transpose of `downsample`, times 2 per axis.

    y_(2 m + r) = 2 sum_k f_k x_(m + (r + p - k) / 2), over the k for which the index is whole. The
    kernel (1, 1) repeats values.
    """
    reach, p = len(kernel) // 4, len(kernel) // 2 - 1
    for axis in range(1, x.ndim - 1):
        if kernel == (1, 1):
            x = x.repeat(2, axis)
            continue
        n, wide = x.shape[axis], _padded(x, axis, reach)
        phases = []
        for r in (0, 1):
            start = {k: reach + (r + p - k) // 2 for k in range((r + p) % 2, len(kernel), 2)}
            parts = [(k, lax.slice_in_dim(wide, s, s + n, axis=axis)) for k, s in start.items()]
            phases.append(_sum(kernel, parts, 2 / sum(kernel)))
        shape = (*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
        x = jnp.stack(phases, axis + 1).reshape(shape)
    return x


def _padded(x: Array, axis: int, pad: int) -> Array:
    return jnp.pad(x, [(pad, pad) if a == axis else (0, 0) for a in range(x.ndim)])


def _sum(kernel: Kernel, parts: list[tuple[int, Array]], factor: float) -> Array:
    first, *others = (part * (kernel[k] * factor) for k, part in parts)
    return sum(others, first)
