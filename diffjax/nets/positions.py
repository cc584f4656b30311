"""Patches as tokens and their positions on the grid: sines and cosines, or angles of rotation."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def shares(width: int, axes: int) -> list[int]:
    """Divide `width` features among `axes` in even parts; the first axis has the remainder.

    Raises ValueError for fewer than two features per axis, or an odd number of features.
    """
    if width % 2 or width < 2 * axes:
        raise ValueError(
            f"{width} features for positions on {axes} axes: needs an even number >= {2 * axes}"
        )
    each = width // (2 * axes) * 2
    return [width - each * (axes - 1)] + [each] * (axes - 1)


def angles(grid: tuple[int, ...], parts: list[int]) -> list[Array]:
    """Return index times frequency, from 1 to 1e-4, per axis: (n, features of the axis / 2).

    parts: the number of features of each axis of the grid.
    """
    tables = []
    for n, share in zip(grid, parts, strict=True):
        frequency = 1e4 ** -(np.arange(share // 2) / (share // 2))
        tables.append(jnp.outer(jnp.arange(n), jnp.asarray(frequency, jnp.float32)))
    return tables


def spread(tables: list[Array]) -> Float[Array, "l _"]:
    """Return the tables (n, features) of the axes at all positions in C order, last axis first."""
    grid, parts = tuple(len(table) for table in tables), []
    for axis, table in reversed(list(enumerate(tables))):
        shape = [n if i == axis else 1 for i, n in enumerate(grid)]
        wide = table.reshape(*shape, table.shape[1])
        parts.append(jnp.broadcast_to(wide, (*grid, table.shape[1])))
    joined = jnp.concatenate(parts, -1)
    return joined.reshape(math.prod(grid), joined.shape[-1])


def sincos(
    grid: tuple[int, ...], width: int, stretch: float = 1.0, cover: tuple[int, ...] = ()
) -> Float[Array, "l w"]:
    """Return sines and cosines of the index / stretch along each axis, (L, width).

    On images they are those of arXiv:2212.09748. cover: another grid, whose range the positions
    cover, as those of PixArt do (arXiv:2403.04692); () for that of the grid itself.

    >>> float(sincos((4,), 2, cover=(2,))[2, 0]) == float(sincos((2,), 2)[1, 0])
    True
    """
    parts = shares(width, len(grid))[::-1]
    steps = [n / m for m, n in zip(grid, cover, strict=True)] if cover else [1.0] * len(grid)
    tables = [a * s / stretch for a, s in zip(angles(grid, parts), steps, strict=True)]
    return spread([jnp.concatenate([jnp.sin(a), jnp.cos(a)], 1) for a in tables])


def rotations(grid: tuple[int, ...], width: int, axes: tuple[int, ...] = ()) -> Float[Array, "l e"]:
    """Return the angles (L, width / 2) that rotate the features of a head, axis by axis.

    axes: the number of features of each axis, by default `shares`; a grid with fewer axes has the
    last ones, and the features of the first ones are not rotated. Source: arXiv:2104.09864.

    >>> rotations((3, 2), 8, axes=(4, 2, 2))[-1].tolist()  # column, row, nothing
    [1.0, 2.0, 0.0, 0.0]
    """
    whole = (*(1,) * (len(axes) - len(grid)), *grid)
    return spread(angles(whole, list(axes) or shares(width, len(grid))[::-1]))


def waved(x: Float[Array, "*d c"], count: int) -> Float[Array, "*d e"]:
    """Return coordinates, and behind them their sines and cosines at `count` frequencies.

    The frequencies are 1, 2, 4, ... per unit, and the result has c (1 + 2 count) channels. From
    them a network learns functions that change over short distances (arXiv:2006.10739).

    >>> waved(jnp.zeros((1, 2)), 1).tolist()
    [[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]
    """
    angle = [2.0**k * x for k in range(count)]
    if not angle:
        return x
    return jnp.concatenate([x, *map(jnp.sin, angle), *map(jnp.cos, angle)], -1)


def centre(table: Float[Array, "*d w"], grid: tuple[int, ...]) -> Float[Array, "l w"]:
    """Return the middle of a table of positions, of the size of the grid, in C order.

    Raises ValueError for a grid that is larger than the table.

    >>> centre(jnp.arange(5.0)[:, None], (3,)).ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    sides = table.shape[:-1]
    if any(n > side for n, side in zip(grid, sides, strict=True)):
        raise ValueError(f"a grid of {grid} patches: the learned positions have {sides}")
    first = [(side - n) // 2 for n, side in zip(grid, sides, strict=True)]
    parts = tuple(slice(k, k + n) for k, n in zip(first, grid, strict=True))
    return table[parts].reshape(math.prod(grid), -1)


def rotate(x: Float[Array, "b l h d"], turn: Float[Array, "l e"]) -> Float[Array, "b l h d"]:
    """Rotate features i and i + d / 2 of each head by angle i.

    The product q k^T then depends on differences of positions only.
    """
    sin, cos = jnp.sin(turn)[None, :, None], jnp.cos(turn)[None, :, None]
    a, b = jnp.split(x.astype(turn.dtype), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


def fold(x: Float[Array, "b *d c"], sides: tuple[int, ...]) -> Float[Array, "b l e"]:
    """Return patches as tokens (B, L, features), with features in the order (*sides, C)."""
    b, *grid, c = x.shape
    pairs = [(n // p, p) for n, p in zip(grid, sides, strict=True)]
    x = x.reshape(b, *(n for pair in pairs for n in pair), c)
    outer, inner = range(1, 2 * len(sides), 2), range(2, 2 * len(sides) + 1, 2)
    return x.transpose(0, *outer, *inner, x.ndim - 1).reshape(b, math.prod(n for n, _ in pairs), -1)


def unfold(
    x: Float[Array, "b l e"], grid: tuple[int, ...], sides: tuple[int, ...]
) -> Float[Array, "b *d c"]:
    """Return the grid (B, *D, C) of tokens: the inverse of `fold`."""
    b, n = x.shape[0], len(grid)
    x = x.reshape(b, *grid, *sides, -1)
    order = [i for k in range(n) for i in (1 + k, 1 + n + k)]
    whole = [m * p for m, p in zip(grid, sides, strict=True)]
    return x.transpose(0, *order, x.ndim - 1).reshape(b, *whole, -1)
