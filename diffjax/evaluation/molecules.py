"""Bonds of molecules by distance, and what is right about them: degrees, pieces, graphs, angles.

Molecules are coordinates (N, 3) in angstrom and elements (N,), without bonds. Two atoms are bonded
where their distance is below the sum of their covalent radii (Cordero et al., Dalton Trans. 2008,
2832) and a tolerance. All functions are computed on the host, in float64.
"""

from __future__ import annotations

import hashlib

import numpy as np

RADII = {"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57}
"""Covalent radii in angstrom."""
MOST = {"H": 1, "C": 4, "N": 4, "O": 2, "F": 1}
"""The largest number of neighbours; every atom has at least one."""
TOLERANCE = 0.3
"""What a bond may be longer than the sum of both radii, in angstrom."""


def bonds(x: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Return which atoms are bonded, (N, N), symmetric and without the diagonal.

    Raises KeyError for elements without a radius.

    >>> bonds(np.array([[0, 0, 0], [0.74, 0, 0], [3, 0, 0]]), np.array(["H", "H", "H"]))[0].tolist()
    [False, True, False]
    """
    x = np.asarray(x, np.float64)
    radius = np.array([RADII[element] for element in elements])
    apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    near = apart < radius[:, None] + radius[None] + TOLERANCE
    return near & ~np.eye(len(x), dtype=bool)


def right(bonded: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Return for each atom (N,) whether its number of neighbours is possible.

    >>> right(np.array([[False, True], [True, False]]), np.array(["H", "F"])).tolist()
    [True, True]
    """
    degree = bonded.sum(1)
    return (degree >= 1) & (degree <= np.array([MOST[element] for element in elements]))


def pieces(bonded: np.ndarray) -> int:
    """Return the number of connected pieces of a molecule.

    >>> pieces(np.zeros((3, 3), bool))
    3
    """
    reach, before = bonded | np.eye(len(bonded), dtype=bool), 0
    while reach.sum() != before:  # each round doubles the length of the paths
        before, reach = reach.sum(), (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return len(np.unique(reach, axis=0))


def whole(bonded: np.ndarray, elements: np.ndarray) -> bool:
    """Return whether all atoms are `right` and connected: a whole molecule.

    >>> whole(np.array([[False, True], [True, False]]), np.array(["H", "F"]))
    True
    """
    return bool(right(bonded, elements).all()) and pieces(bonded) == 1


def graph(bonded: np.ndarray, elements: np.ndarray) -> str:
    """Return a fingerprint of elements and bonds that does not depend on the order of the atoms.

    Each atom is named by its element, and N times by its name and the sorted names of its
    neighbours (Weisfeiler and Lehman). Equal graphs have equal fingerprints. Different ones have
    different fingerprints, except for rare regular graphs, and stereoisomers are equal.

    >>> line = np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)
    >>> ends = graph(line, np.array(["H", "O", "H"])), graph(line, np.array(["H", "H", "O"]))
    >>> ends[0] == ends[1]
    False
    """
    names = [str(element) for element in elements]
    digest = lambda text: hashlib.sha256(text.encode()).hexdigest()[:16]
    for _ in names:
        around = [sorted(names[j] for j in np.flatnonzero(row)) for row in bonded]
        names = [digest(f"{name}({','.join(a)})") for name, a in zip(names, around, strict=True)]
        if len({*names}) == len(names):
            break
    return digest(",".join(sorted(names)))


def lengths(x: np.ndarray, bonded: np.ndarray) -> np.ndarray:
    """Return the lengths of all bonds, in angstrom.

    >>> x = np.array([[0, 0, 0], [0.74, 0, 0.0]])
    >>> lengths(x, bonds(x, np.array(["H", "H"]))).tolist()
    [0.74]
    """
    first, second = np.nonzero(np.triu(bonded))
    return np.sqrt(((x[first] - x[second]) ** 2).sum(-1))


def angles(x: np.ndarray, bonded: np.ndarray) -> np.ndarray:
    """Return the angles between each two bonds of an atom, in degrees.

    >>> x = np.array([[0.9, 0, 0], [0, 0, 0], [0, 0.9, 0]])
    >>> angles(x, bonds(x, np.array(["H", "O", "H"]))).round().tolist()
    [90.0]
    """
    found = []
    for i, row in enumerate(bonded):
        along = x[np.flatnonzero(row)] - x[i]
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        first, second = np.triu_indices(len(along), 1)
        found.append(np.degrees(np.arccos(np.clip((along[first] * along[second]).sum(1), -1, 1))))
    return np.concatenate(found) if found else np.zeros(0)
