"""Distances of conformers: deviations after the best rotation, over the symmetries of the graph.

All functions are computed on the host, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjax.evaluation.molecular import renamed

MOST = 50_000
"""The largest number of symmetries of a graph that are tried."""


def rmsd(a: np.ndarray, b: np.ndarray, mirror: bool = False) -> np.ndarray:
    """Return root mean square deviations (...) of points (..., N, 3) after the best motion.

    The mean over points of |a_i - R b_i|^2 is least for the rotation R that the singular values s
    of the covariance of centred points give: it is (|a|^2 + |b|^2 - 2 (s_1 + s_2 +- s_3)) / N, with
    the sign of the determinant (Kabsch 1976). mirror: allow reflections as well, with + always.

    >>> a = np.random.default_rng(0).normal(size=(5, 3))
    >>> b = a[:, [1, 0, 2]] + 3.0  # a reflection
    >>> bool(rmsd(a, b) > 0.1), bool(rmsd(a, b, mirror=True) < 1e-6)
    (True, True)
    """
    a, b = (x - x.mean(-2, keepdims=True) for x in (np.float64(a), np.float64(b)))
    covariance = np.swapaxes(a, -1, -2) @ b
    s = np.linalg.svd(covariance, compute_uv=False)
    last = 1.0 if mirror else np.sign(np.linalg.det(covariance))
    most = s[..., 0] + s[..., 1] + last * s[..., 2]
    square = (a**2).sum((-2, -1)) + (b**2).sum((-2, -1)) - 2 * most
    return np.sqrt(np.maximum(square, 0) / a.shape[-2])


def automorphisms(bonded: np.ndarray, names: Sequence[str], most: int = MOST) -> np.ndarray:
    """Return the symmetries of a graph as permutations (K, N), the identity among them.

    A permutation p maps each node i to a node p[i] of the same name, and neighbours to neighbours.
    bonded: (N, N). Of more than `most` symmetries the first ones are returned.

    >>> line = np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)
    >>> automorphisms(line, ["O", "C", "O"]).tolist()
    [[0, 1, 2], [2, 1, 0]]
    """
    count, alike = len(bonded), [str(name) for name in names]
    for _ in range(count):  # nodes whose surroundings differ are never exchanged
        alike = renamed(alike, bonded)
    found, order = [np.zeros(0, int)], _connected(bonded)
    for k, node in enumerate(order):
        before, more = order[:k], []
        same = [other for other in range(count) if alike[other] == alike[node]]
        for images in found:
            free = [other for other in same if other not in images]
            fits = [o for o in free if (bonded[o, images] == bonded[node, before]).all()]
            more += [np.append(images, o) for o in fits]
        found = more[:most]
    images, places = np.array(found), np.argsort(order)
    return images[np.lexsort(images[:, places].T[::-1])][:, places]


def _connected(bonded: np.ndarray) -> list[int]:
    """Return all nodes in an order in which each has a neighbour before it, where one exists."""
    order: list[int] = []
    while len(order) < len(bonded):
        free = [i for i in range(len(bonded)) if i not in order]
        order.append(max(free, key=lambda i: (bonded[i, order].sum(), -i)))
    return order


def heavy(elements: np.ndarray, bonded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms besides hydrogen (M,), and their symmetries (K, M).

    Atoms are alike by their elements, the numbers of their hydrogens, and those around them; orders
    of bonds do not matter, so that both oxygens of a nitro group are alike.

    >>> water = np.array([[False, True, True], [True, False, False], [True, False, False]])
    >>> heavy(np.array(["O", "H", "H"]), water)[0].tolist()
    [0]
    """
    rows = np.flatnonzero(elements != "H")
    hydrogens = bonded[:, elements == "H"].sum(1)
    names = [f"{elements[i]}{hydrogens[i]}" for i in rows]
    return rows, automorphisms(bonded[np.ix_(rows, rows)], names)
