"""Items of conformers: centred coordinates, and the graph of the molecule as conditions.

A graph is one-hot elements (N, 5) of the atoms, and features (N, N, 5) of their pairs. `joined`
puts an item and its graph side by side, as files and pictures need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from diffjax.data.bonds import ELEMENTS
from diffjax.data.molecule import DEVIATION

ORDERS, FAR = 3, 3
"""The largest order of a bond, and the largest number of bonds between two atoms that counts."""
PAIRED = ORDERS + FAR - 1
"""The number of features of a pair: one for each order, and for atoms 2 and 3 bonds apart."""


class Conformer(NamedTuple):
    """Coordinates x (N, 3) in angstrom, elements (N,), and orders of bonds (N, N)."""

    x: np.ndarray
    elements: np.ndarray
    order: np.ndarray


def centred(x: np.ndarray, most: int) -> np.ndarray:
    """Return coordinates x (N, 3) in angstrom as an item (most, 3), NaN beyond the atoms.

    >>> centred(np.array([[0, 0, 0], [3.0, 0, 0]]), 3).tolist()
    [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [nan, nan, nan]]
    """
    item = np.full((most, 3), np.nan, np.float32)
    item[: len(x)] = (x - x.mean(0)) / DEVIATION
    return item


def one_hot(elements: np.ndarray, most: int) -> np.ndarray:
    """Return elements (N,) as one-hot vectors (most, 5), 0 beyond the atoms.

    >>> one_hot(np.array(["C"]), 2).tolist()
    [[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    rows = np.zeros((most, len(ELEMENTS)), np.float32)
    rows[: len(elements)] = elements[:, None] == np.array(ELEMENTS)
    return rows


def features(order: np.ndarray, most: int) -> np.ndarray:
    """Return the features of all pairs of atoms (most, most, 5), which are 0 or 1.

    They are 1 for a single bond, a double bond, a triple bond, and for atoms that are 2 and 3 bonds
    apart. order: the orders of bonds (N, N), 0 without one.

    >>> propane = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    >>> features(propane, 3)[0].tolist()
    [[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]]
    """
    n, bonded = len(order), order > 0
    found = np.zeros((most, most, PAIRED), np.float32)
    for k in range(ORDERS):
        found[:n, :n, k] = order == k + 1
    reached, ends = np.eye(n, dtype=bool) | bonded, bonded
    for k in range(FAR - 1):
        ends = ((ends.astype(int) @ bonded) > 0) & ~reached
        reached = reached | ends
        found[:n, :n, ORDERS + k] = ends
    return found


def orders_of(pairs: np.ndarray) -> np.ndarray:
    """Return the orders of bonds (..., N, N) that features of pairs (..., N, N, 5) state.

    >>> orders_of(features(np.array([[0, 2], [2, 0]]), 2)).tolist()
    [[0, 2], [2, 0]]
    """
    return (pairs[..., :ORDERS] @ np.arange(1, ORDERS + 1)).round().astype(int)


def joined(x: np.ndarray, cond: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return items (B, N, 3) and their graphs side by side, (B, N, 8 + N).

    A row holds the place of an atom, its one-hot element, and the orders of its bonds to all atoms.
    Items without a graph are returned as they are.

    >>> graph = {"elements": np.zeros((2, 4, 5)), "bonds": np.zeros((2, 4, 4, 5))}
    >>> joined(np.zeros((2, 4, 3)), graph).shape
    (2, 4, 12)
    """
    if not {"elements", "bonds"} <= set(cond):
        return x
    order = orders_of(np.nan_to_num(cond["bonds"]))
    rows = np.concatenate([x, np.nan_to_num(cond["elements"]), order], -1).astype(np.float32)
    return np.where(np.isnan(x[..., :1]), np.float32(np.nan), rows)


def separate(item: np.ndarray) -> Conformer:
    """Return the conformer of an item with its graph (N, 8 + most); `joined` is the inverse.

    Atoms of an item (N, 3) without a graph are of the element X, and have no bonds.

    >>> graph = {"elements": one_hot(np.array(["C"]), 2)[None], "bonds": np.zeros((1, 2, 2, 5))}
    >>> separate(joined(centred(np.zeros((1, 3)), 2)[None], graph)[0]).elements.tolist()
    ['C']
    """
    inside = ~np.isnan(item[:, 0])
    rows, n, kinds = item[inside], int(inside.sum()), len(ELEMENTS)
    x = np.asarray(rows[:, :3], np.float64) * DEVIATION
    if item.shape[1] == 3:
        return Conformer(x, np.full(n, "X"), np.zeros((n, n), int))
    elements = np.array(ELEMENTS)[rows[:, 3 : 3 + kinds].argmax(1)]
    return Conformer(x, elements, rows[:, 3 + kinds :][:, :n].round().astype(int))
