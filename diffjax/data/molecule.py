"""Items of molecules: atoms with coordinates in angstrom and elements, packed in rows (N, 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjax.data.bonds import ELEMENTS
from diffjax.data.packed import Layout, Part
from diffjax.spaces import Centred, Masked

DEVIATION = 1.5
"""The deviation of the coordinates of small molecules, in angstrom, by which items divide them."""
LAYOUT = Layout(
    (
        Part("x", 3, scale=1 / DEVIATION, space=Centred()),
        Part("element", len(ELEMENTS), classes=True, scale=0.25, space=Masked()),
    )
)
"""The parts of a row: the coordinates of an atom, and its element, an index of `ELEMENTS`."""


def packed(x: Sequence[np.ndarray], elements: Sequence[Sequence[str]], most: int) -> np.ndarray:
    """Return molecules as centred items (B, most, 8), NaN beyond the atoms of each.

    x: coordinates (N, 3) of each molecule in angstrom. elements: the names of its atoms. Raises
    ValueError for other elements than `ELEMENTS`, and for molecules of more than `most` atoms.

    >>> packed([np.zeros((1, 3))], [["C"]], most=2)[0, :, 3:5].tolist()
    [[0.0, 0.25], [nan, nan]]
    """
    items = np.full((len(x), most, LAYOUT.width), np.nan, np.float32)
    for item, places, names in zip(items, x, elements, strict=True):
        if unknown := sorted({*names} - {*ELEMENTS}):
            raise ValueError(f"element {unknown[0]!r}: unknown; known: {', '.join(ELEMENTS)}")
        if len(places) > most:
            raise ValueError(f"a molecule of {len(places)} atoms: needs at most {most}")
        numbers = np.array([ELEMENTS.index(name) for name in names])
        item[: len(places)] = LAYOUT.pack({"x": places - places.mean(0), "element": numbers})
    return items


def unpacked(item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates (N, 3) in angstrom, and the names (N,), of the atoms of an item.

    >>> x, elements = unpacked(packed([np.zeros((1, 3))], [["C"]], most=1)[0])
    >>> x.tolist(), elements.tolist()
    ([[0.0, 0.0, 0.0]], ['C'])
    """
    values = LAYOUT.unpack(item)
    return np.asarray(values["x"], np.float64), np.array(ELEMENTS)[values["element"]]
