"""Bonds of molecules by distance: which atoms of given elements and coordinates are bonded.

Two atoms are bonded where their distance is below the sum of their covalent radii (Cordero et al.,
Dalton Trans. 2008, 2832) and a tolerance. All functions run on the host, in float64.
"""

from __future__ import annotations

import numpy as np

ELEMENTS = ("H", "C", "N", "O", "F")
"""The elements of the molecules, in the order of their one-hot vectors."""
RADII = {"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57}
"""Covalent radii in angstrom."""
VALENCES = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}
"""The sum of the orders of the bonds of an atom."""
TOLERANCE = 0.3
"""What a bond may be longer than the sum of both radii, in angstrom."""


def bonds(x: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Return which atoms are bonded, (N, N), symmetric and without the diagonal.

    x: coordinates (N, 3) in angstrom. elements: their names (N,). Raises KeyError for elements
    without a radius.

    >>> bonds(np.array([[0, 0, 0], [0.74, 0, 0], [3, 0, 0]]), np.array(["H", "H", "H"]))[0].tolist()
    [False, True, False]
    """
    x = np.asarray(x, np.float64)
    radius = np.array([RADII[element] for element in elements])
    apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    near = apart < radius[:, None] + radius[None] + TOLERANCE
    return near & ~np.eye(len(x), dtype=bool)


def orders(bonded: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Return the orders of bonds (N, N), 0 without a bond, by which most valences are satisfied.

    Bonds are single at first. Then the atom that lacks bonds and has the fewest neighbours that
    lack bonds shares one more with that of its neighbours which has the fewest itself, until no two
    neighbours lack bonds. Aromatic rings thus have single and double bonds in turn.

    >>> orders(np.array([[False, True], [True, False]]), np.array(["O", "O"])).tolist()
    [[0, 2], [2, 0]]
    """
    order = bonded.astype(int)
    valence = np.array([VALENCES[element] for element in elements])
    while True:
        lacks = order.sum(1) < valence
        open_ = bonded & lacks[:, None] & lacks[None] & (order < 3)
        choices = open_.sum(1)
        if not choices.any():
            return order
        few = np.where(choices > 0, choices, len(choices) + 1)
        first = int(few.argmin())
        second = int(np.where(open_[first], few, len(choices) + 1).argmin())
        order[first, second] = order[second, first] = order[first, second] + 1
