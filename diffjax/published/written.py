"""Inverses of published layouts: the tensors from which our parameters were, or could be, read.

A layout moves values, changes their sign, or adds zeros, and so is its own description: applied to
the numbers of the places of published tensors, it tells where each of our values comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffjax.arrays import Params
from diffjax.io.trees import flat
from diffjax.published.dit import null_first
from diffjax.published.tables import Table, kernel, matrix, same, side_by_side, with_null

Shape = tuple[int, ...]
SHAPES: dict[Callable[..., np.ndarray], Callable[[Shape, int], list[Shape]]] = {
    same: lambda s, n: [s],
    kernel: lambda s, n: [(s[-1], s[-2], *s[:-2])],
    matrix: lambda s, n: [s[::-1]],
    side_by_side: lambda s, n: [(s[-1] // n, *s[:-1])] * n,
    with_null: lambda s, n: [(s[0] - 1, *s[1:])],
    null_first: lambda s, n: [s],
}
"""The shapes of n published tensors, by their layout and the shape of our array."""
POINTWISE = ("conv_shortcut.weight", "quant_conv.weight")
"""Endings of layers that diffusers stores as convolutions with kernels of one value."""


def written(table: Table, params: Params) -> dict[str, np.ndarray]:
    """Return the published tensors from which `tables.converted` reads these parameters.

    Raises ValueError, which names the parameter, where there are none, such as for a learned null
    where theirs is zero.

    >>> tensors = written({"dense/kernel": (matrix, "w")}, {"dense": {"kernel": np.ones((2, 3))}})
    >>> tensors["w"].shape
    (3, 2)
    """
    arrays, tensors = flat(params), {}
    if surplus := set(arrays) - set(table):
        raise ValueError(f"{min(surplus)}: has no counterpart among the published tensors")
    for path, (layout, *names) in table.items():
        ours = np.asarray(arrays[path], np.float32)
        shapes = SHAPES[layout](ours.shape, len(names))
        each = zip(names, shapes, strict=True)
        wide = [(*shape, 1, 1) if name.endswith(POINTWISE) else shape for name, shape in each]
        theirs = inverted(layout, ours, wide)
        if theirs is None:
            raise ValueError(f"{path}: has values for which the published layout has no place")
        tensors |= dict(zip(names, theirs, strict=True))
    return tensors


def inverted(layout: Any, ours: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray] | None:
    """Return the tensors of these shapes that a layout maps to our array, None without any.

    >>> inverted(side_by_side, np.array([1.0, 2.0]), [(1,), (1,)])
    [array([1.], dtype=float32), array([2.], dtype=float32)]
    """
    sizes = [math.prod(shape) for shape in shapes]
    ends = np.cumsum([0, *sizes])
    numbers = [
        np.arange(1 + first, 1 + first + size, dtype=np.float64).reshape(shape)
        for first, size, shape in zip(ends[:-1], sizes, shapes, strict=True)
    ]
    places = np.asarray(layout(*numbers))
    if places.shape != ours.shape or np.abs(places).max(initial=0) > ends[-1]:
        return None
    values, sources = ours.ravel(), places.ravel()
    theirs = np.full(1 + ends[-1], np.nan, np.float32)
    theirs[np.abs(sources).astype(int)] = np.sign(sources) * values
    parts = [
        theirs[1 + first : 1 + first + size].reshape(shape)
        for first, size, shape in zip(ends[:-1], sizes, shapes, strict=True)
    ]
    back = np.asarray(layout(*parts), np.float32)
    whole = not np.isnan(theirs[1:]).any()
    return parts if whole and np.array_equal(back, ours) else None
