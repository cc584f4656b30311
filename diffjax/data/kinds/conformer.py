"""Conformers (N, 3): coordinates of the atoms of a molecule, whose graph is a condition.

Coordinates and their noise lie in the space of centred points (arXiv:2203.02923). Items of fewer
atoms are padded, and have a length. Pictures and files have the bonds of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjax.data.conformer import centred, joined, separate
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.molecule import REACH, TILE, balls
from diffjax.data.kinds.molecule_files import formats
from diffjax.data.kinds.solid import Solid, picture, shown
from diffjax.spaces import Centred


def solid(item: np.ndarray) -> Solid:
    """Return the atoms of an item with its graph as balls, and the given bonds as sticks.

    >>> solid(centred(np.zeros((1, 3)), 2)).colours.tolist()  # without a graph
    [[160, 160, 160]]
    """
    x, elements, order = separate(item)
    return balls(x, elements, order > 0)


def _together(x: Sequence[np.ndarray], elements: Sequence[Sequence[str]], most: int) -> np.ndarray:
    """Return coordinates as items; the elements of a file are those of the graph."""
    return np.stack([centred(places, most) for places in x])


CONFORMER = Kind(
    name="conformer",
    axes="(N, 3)",
    ranks=(2,),
    channels=(3,),
    tiles=lambda x: np.stack([picture(solid(item), TILE, REACH) for item in x]),
    files=(*formats(separate, _together), *shown(solid, "conformer")),
    lengths=True,
    space=Centred(),
    joined=joined,
    noun="conformer",
)
"""Items whose rows are the places of atoms in units of 1.5 angstrom."""
