"""What is right about molecules: degrees, pieces, graphs, surroundings, lengths and angles.

Molecules are coordinates (N, 3) in angstrom, elements (N,) and bonds (N, N), as those by distance
of `data.bonds`. All functions are computed on the host, in float64.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

MOST = {"H": 1, "C": 4, "N": 4, "O": 2, "F": 1}
"""The largest number of neighbours; every atom has at least one."""


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
    for _ in range(len(elements)):
        names = renamed(names, bonded)
        if len({*names}) == len(names):
            break
    return _digest(",".join(sorted(names)))


def surroundings(bonded: np.ndarray, elements: np.ndarray, reach: int = 2) -> Counter[str]:
    """Count how often each surrounding of an atom occurs, up to `reach` bonds away.

    An atom counts once for each distance 0, ..., reach, by its element and those around it, as in
    circular fingerprints (Rogers and Hahn, J. Chem. Inf. Model. 2010, 742).

    >>> line = np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)
    >>> sorted(surroundings(line, np.array(["H", "O", "H"]), reach=1).values())
    [1, 1, 2, 2]
    """
    names = [str(element) for element in elements]
    counts = Counter(names)
    for _ in range(reach):
        names = renamed(names, bonded)
        counts.update(names)
    return counts


def renamed(names: list[str], bonded: np.ndarray) -> list[str]:
    """Return a name for each atom by its own and the sorted names of its neighbours.

    >>> both = renamed(["O", "H", "H"], np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]))
    >>> both[0] == both[1], both[1] == both[2]
    (False, True)
    """
    around = [sorted(names[j] for j in np.flatnonzero(row)) for row in bonded]
    return [_digest(f"{name}({','.join(a)})") for name, a in zip(names, around, strict=True)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lengths(x: np.ndarray, bonded: np.ndarray) -> np.ndarray:
    """Return the lengths of all bonds, in angstrom.

    >>> lengths(np.array([[0, 0, 0], [0.74, 0, 0.0]]), np.eye(2)[::-1] > 0).tolist()
    [0.74]
    """
    first, second = np.nonzero(np.triu(bonded))
    return np.sqrt(((x[first] - x[second]) ** 2).sum(-1))


def angles(x: np.ndarray, bonded: np.ndarray) -> np.ndarray:
    """Return the angles between each two bonds of an atom, in degrees.

    >>> line = np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)
    >>> angles(np.array([[0.9, 0, 0], [0, 0, 0], [0, 0.9, 0]]), line).round().tolist()
    [90.0]
    """
    found = []
    for i, row in enumerate(bonded):
        along = x[np.flatnonzero(row)] - x[i]
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        first, second = np.triu_indices(len(along), 1)
        found.append(np.degrees(np.arccos(np.clip((along[first] * along[second]).sum(1), -1, 1))))
    return np.concatenate(found) if found else np.zeros(0)
