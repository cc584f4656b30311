"""Molecules (N, 8): coordinates and elements of atoms, packed, in an order without a meaning.

Coordinates and their noise lie in the space of centred points (arXiv:2203.17003). Items of fewer
atoms are padded, and have a length.
"""

from __future__ import annotations

import numpy as np

from diffjax.data.bonds import RADII, bonds
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.molecule_files import SDF, XYZ
from diffjax.data.kinds.solid import Solid, picture, shown
from diffjax.data.kinds.storing import ended
from diffjax.data.molecule import LAYOUT, unpacked

COLOURS = {
    "H": (224, 224, 224),
    "C": (70, 70, 70),
    "N": (48, 80, 248),
    "O": (224, 32, 32),
    "F": (80, 176, 48),
}
"""The colours of elements, by the usual convention."""
TILE, REACH = 128, 4.8
"""Side of a picture in pixels, and the distance from its middle to its side in angstrom."""


def solid(item: np.ndarray) -> Solid:
    """Return the atoms of an item (N, 8) as balls, in angstrom, and its bonds as sticks.

    The radius of a ball is 0.45 times the sum of the covalent radius and half an angstrom.

    >>> from diffjax.data.molecule import packed
    >>> solid(packed([np.zeros((1, 3))], [["C"]], most=2)[0]).colours.tolist()
    [[70, 70, 70]]
    """
    x, elements = unpacked(ended(item))
    colours = np.array([COLOURS[element] for element in elements], np.uint8).reshape(-1, 3)
    radii = np.array([0.45 * (RADII[element] + 0.5) for element in elements])
    return Solid(x, colours, radii, np.argwhere(np.triu(bonds(x, elements))))


MOLECULE = Kind(
    name="molecule",
    axes="(N, 8)",
    ranks=(2,),
    channels=(LAYOUT.width,),
    tiles=lambda x: np.stack([picture(solid(item), TILE, REACH) for item in x]),
    files=(XYZ, SDF, *shown(solid, "molecule")),
    lengths=True,
    space=LAYOUT.space,
    noun="molecule",
)
"""Items whose rows are atoms: coordinates in units of 1.5 angstrom, and elements."""
