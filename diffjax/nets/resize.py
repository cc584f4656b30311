"""Image resizing as evaluators do it: a product with one matrix per axis for each method."""

from __future__ import annotations

import numpy as np
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float

from diffjax.checks import one_of
from diffjax.resampling import keys, matrix


def resized(x: Float[Array, "b h w c"], size: int, way: str) -> Float[Array, "b s s c"]:
    """Return images resized to `size` x `size`, (B, size, size, C), from values in [0, 255].

    way: the method, an entry of `WAYS`. As Pillow does, `pillow` resizes along the rows first and
    rounds to grey levels after each axis. Raises ValueError for another method.
    """
    one_of(WAYS, way=way)
    rows, columns = (jnp.asarray(WAYS[way](n, size), x.dtype) for n in x.shape[1:3])
    levels = lambda a: jnp.clip(jnp.floor(a + 0.5), 0, 255) if way == "pillow" else a
    exact = lax.Precision.HIGHEST
    x = levels(jnp.einsum("jw,bhwc->bhjc", columns, x, precision=exact))
    return levels(jnp.einsum("ih,bhjc->bijc", rows, x, precision=exact))


def corners(n: int, size: int) -> np.ndarray:
    """Return the bilinear matrix (size, n) of TensorFlow 1, which samples pixel i at i n / size."""
    return _linear(np.arange(size) * n / size, n)


def centres(n: int, size: int) -> np.ndarray:
    """Return the bilinear matrix (size, n) of PyTorch, which aligns the centres of pixels."""
    return _linear(((np.arange(size) + 0.5) * n / size - 0.5).clip(0), n)


def smooth(n: int, size: int) -> np.ndarray:
    """Return the bicubic matrix (size, n) of Pillow.

    Where the new pixels are larger, the kernel is as wide as they are.
    """
    return matrix("bicubic", n, size)


def cubic(n: int, size: int, scale: float) -> np.ndarray:
    """Return the bicubic matrix (size, n) of PyTorch with a given `scale` in place of size / n.

    Pixels beyond the edges repeat those at the edges.
    """
    at = (np.arange(size) + 0.5) / scale - 0.5
    matrix, first = np.zeros((size, n)), np.floor(at).astype(int)
    for near in range(-1, 3):
        index = (first + near).clip(0, n - 1)
        np.add.at(matrix, (np.arange(size), index), keys(at - first - near, -0.75))
    return matrix


WAYS = {"tensorflow1": corners, "pytorch": centres, "pillow": smooth}


def _linear(at: np.ndarray, n: int) -> np.ndarray:
    """Return the weights of the pixel at or before each point and of the next pixel.

    The last pixel is repeated.
    """
    matrix, first = np.zeros((len(at), n)), np.floor(at).astype(int)
    rows, share = np.arange(len(at)), at - first
    np.add.at(matrix, (rows, first), 1 - share)
    np.add.at(matrix, (rows, (first + 1).clip(max=n - 1)), share)
    return matrix
