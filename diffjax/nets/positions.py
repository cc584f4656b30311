"""Where a token is on its grid: fixed sines and cosines, or angles that turn queries and keys."""

from __future__ import annotations

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float


def shares(width: int, axes: int) -> list[int]:
    """`width` divided among `axes`, each an even part; the first has what is left over.

    Raises ValueError where there are not two for each, or an odd number.
    """
    if width % 2 or width < 2 * axes:
        raise ValueError(f"{width} features for positions on {axes} axes: needs 2 each, and even")
    each = width // (2 * axes) * 2
    return [width - each * (axes - 1)] + [each] * (axes - 1)


def angles(grid: tuple[int, ...], width: int) -> list[np.ndarray]:
    """Per axis, last axis first, index times frequency: (L, part / 2), 1 to 1e-4 per step."""
    index = np.indices(grid).reshape(len(grid), -1)[::-1]
    halves = [part // 2 for part in shares(width, len(grid))]
    return [
        np.outer(i, 1e4 ** -(np.arange(n) / n)) for i, n in zip(index, halves, strict=True)
    ]


def sincos(grid: tuple[int, ...], width: int) -> np.ndarray:
    """Sines and cosines of the index along each axis (L, width), the last axis first.

    On images those of arXiv:2212.09748. L counts the positions of `grid` in C order.
    """
    made = [f(a) for a in angles(grid, width) for f in (np.sin, np.cos)]
    return np.concatenate(made, 1).astype(np.float32)


def rotations(grid: tuple[int, ...], width: int) -> np.ndarray:
    """Angles (L, width / 2) that turn the features of a head (arXiv:2104.09864), axis by axis."""
    return np.concatenate(angles(grid, width), 1).astype(np.float32)


def rotate(x: Float[Array, "b l h d"], turn: Float[Array, "l e"]) -> Float[Array, "b l h d"]:
    """Turn feature i and i + d / 2 of each head by angle i, so that q k^T sees differences only."""
    sin, cos = jnp.sin(turn)[None, :, None], jnp.cos(turn)[None, :, None]
    a, b = jnp.split(x.astype(turn.dtype), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)
