"""Molecules (N, 8): coordinates and elements of atoms, packed, in an order without a meaning.

Coordinates and their noise lie in the space of centred points (arXiv:2203.17003). Items of fewer
atoms are padded, and have a length.
"""

from __future__ import annotations

import numpy as np

from diffjax.data.bonds import RADII, bonds
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.molecule_files import Taken, formats
from diffjax.data.kinds.solid import Solid, picture, shown
from diffjax.data.kinds.storing import ended
from diffjax.data.molecule import LAYOUT, packed, unpacked

COLOURS = {
    "H": (224, 224, 224),
    "C": (70, 70, 70),
    "N": (48, 80, 248),
    "O": (224, 32, 32),
    "F": (80, 176, 48),
}
"""The colours of elements, by the usual convention."""
OTHER, RADIUS = (160, 160, 160), 0.7
"""The colour and the covalent radius in angstrom of atoms of unknown elements."""
TILE, REACH = 128, 4.8
"""Side of a picture in pixels, and the distance from its middle to its side in angstrom."""


def balls(x: np.ndarray, elements: np.ndarray, bonded: np.ndarray) -> Solid:
    """Return atoms as balls, in angstrom, and their bonds as sticks.

    The radius of a ball is 0.45 times the sum of the covalent radius and half an angstrom.

    >>> balls(np.zeros((1, 3)), np.array(["O"]), np.eye(1) == 0).colours.tolist()
    [[224, 32, 32]]
    """
    colours = [COLOURS.get(element, OTHER) for element in elements]
    radii = np.array([0.45 * (RADII.get(element, RADIUS) + 0.5) for element in elements])
    return Solid(x, np.array(colours, np.uint8).reshape(-1, 3), radii, np.argwhere(np.triu(bonded)))


def apart(item: np.ndarray) -> Taken:
    """Return coordinates and elements of an item (N, 8); bonds are those by distance.

    >>> apart(packed([np.zeros((1, 3))], [["C"]], most=2)[0])[1].tolist()
    ['C']
    """
    return *unpacked(ended(item)), None


def solid(item: np.ndarray) -> Solid:
    """Return the atoms of an item (N, 8) as balls, and its bonds by distance as sticks.

    >>> solid(packed([np.zeros((1, 3))], [["C"]], most=2)[0]).colours.tolist()
    [[70, 70, 70]]
    """
    x, elements, _ = apart(item)
    return balls(x, elements, bonds(x, elements))


MOLECULE = Kind(
    name="molecule",
    axes="(N, 8)",
    ranks=(2,),
    channels=(LAYOUT.width,),
    tiles=lambda x: np.stack([picture(solid(item), TILE, REACH) for item in x]),
    files=(*formats(apart, packed), *shown(solid, "molecule")),
    lengths=True,
    space=LAYOUT.space,
    noun="molecule",
)
"""Items whose rows are atoms: coordinates in units of 1.5 angstrom, and elements."""
