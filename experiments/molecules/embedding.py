"""Conformers by distance geometry: from bounds of distances, and by the package rdkit.

Bounds come from training conformers: of the distance of two atoms that are 1, 2 or 3 bonds apart,
by their elements and what is between them. Distances within the bounds become coordinates by the
largest eigenvectors of their Gram matrix (Crippen and Havel 1978), which are then moved until they
violate the bounds least. Nothing is known of rings, planes, or stereochemistry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from diffjax.data.conformer import Conformer

FAR, ROUNDS = 3, 200
"""The largest number of bonds between two atoms that counts, and that of rounds of descent."""
SHARE = 0.01
"""The share of training distances below the lower bound, and above the upper one."""
CHARGES = {("N", 4): 1, ("O", 1): -1, ("O", 3): 1}
"""Charges of atoms by their elements and the sums of the orders of their bonds."""
LEAST, MOST = 1.5, 15.0
"""Bounds in angstrom of distances that training does not know."""


class Bounds(NamedTuple):
    """Lower and upper bounds of distances in angstrom, by the names of pairs."""

    lower: dict[str, float]
    upper: dict[str, float]


def hops(order: np.ndarray) -> np.ndarray:
    """Return the numbers of bonds between all atoms, (N, N).

    >>> hops(np.array([[0, 2, 0], [2, 0, 1], [0, 1, 0]])).tolist()
    [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    """
    n, bonded = len(order), (order > 0).astype(int)
    far, reach = np.full((n, n), n), np.eye(n, dtype=int)
    for k in range(n):
        far = np.where((reach > 0) & (far == n), k, far)
        reach = np.minimum(reach @ bonded, 1)
    return far


def names(m: Conformer) -> np.ndarray:
    """Return a name for each pair of atoms: elements, degrees, bonds between, and the order."""
    far, degree = hops(m.order), (m.order > 0).sum(1)
    found = np.empty(far.shape, object)
    for i, j in np.ndindex(*far.shape):
        kinds = sorted(f"{m.elements[k]}{degree[k]}" for k in (i, j))
        middle = ""
        if far[i, j] == 2:
            both = np.flatnonzero((m.order[i] > 0) & (m.order[j] > 0))
            middle = min(f"{m.elements[k]}{degree[k]}" for k in both) + "r" * (len(both) > 1)
        found[i, j] = f"{kinds}{min(far[i, j], FAR + 1)}{middle}{m.order[i, j]}"
    return found


def distances(x: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def learned(known: Sequence[Conformer]) -> Bounds:
    """Return the bounds of training conformers."""
    seen: dict[str, list[float]] = {}
    for m in known:
        upper = np.triu_indices(len(m.x), 1)
        for name, value in zip(names(m)[upper], distances(m.x)[upper], strict=True):
            seen.setdefault(name, []).append(float(value))
    bound = lambda share: {name: float(np.quantile(v, share)) for name, v in seen.items()}
    return Bounds(bound(SHARE), bound(1 - SHARE))


def embedded(m: Conformer, bounds: Bounds, rng: np.random.Generator) -> np.ndarray:
    """Return coordinates (N, 3) of a graph, in angstrom, that violate the bounds little."""
    tags = names(m)
    low, high = (
        np.vectorize(lambda t, of=of, other=other: of.get(t, other), otypes=[float])(tags)
        for of, other in ((bounds.lower, LEAST), (bounds.upper, MOST))
    )
    for a in (low, high):
        np.fill_diagonal(a, 0.0)
    for k in range(len(high)):  # no distance exceeds a sum of two others
        high = np.minimum(high, high[:, k : k + 1] + high[k : k + 1])
    low = np.minimum(low, high)
    near = np.where(hops(m.order) <= 2, 10.0, 1.0)
    return _moved(_placed(low, high, rng), low, high, near)


def _placed(low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return coordinates whose distances are about random ones within the bounds."""
    drawn = np.triu(rng.uniform(low, high), 1)
    square = (drawn + drawn.T) ** 2
    middle = square.mean(1)
    gram = (middle[:, None] + middle[None] - square - square.mean()) / 2
    values, vectors = np.linalg.eigh(gram)
    return vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 1e-6))[None]


def _moved(x: np.ndarray, low: np.ndarray, high: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the coordinates to which descent on the violation of squared bounds leads."""

    def violation(flat: np.ndarray) -> tuple[float, np.ndarray]:
        apart = flat.reshape(-1, 1, 3) - flat.reshape(1, -1, 3)
        square = (apart**2).sum(-1)
        off = near * (np.maximum(square - high**2, 0) + np.minimum(square - low**2, 0))
        return float((off**2 / near).sum()), (8 * off[..., None] * apart).sum(1).ravel()

    found = minimize(violation, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS})
    return found.x.reshape(-1, 3)


def by_rdkit(m: Conformer, seed: int) -> np.ndarray | None:
    """Return coordinates by the method ETKDGv3 of rdkit, which knows torsions and planes of rings.

    None where rdkit refuses the graph or finds no coordinates. Nitrogen with four bonds is charged,
    as are oxygens that then have one.
    """
    from rdkit import Chem, RDLogger  # pyright: ignore[reportMissingImports]
    from rdkit.Chem import AllChem  # pyright: ignore[reportMissingImports]

    RDLogger.DisableLog("rdApp.*")
    editable = Chem.RWMol()
    for element in m.elements:
        editable.AddAtom(Chem.Atom(str(element)))
    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for i, j in np.argwhere(np.triu(m.order)).tolist():
        editable.AddBond(i, j, kinds[int(m.order[i, j])])
    for atom in editable.GetAtoms():
        atom.SetNoImplicit(True)
        bonds = int(m.order[atom.GetIdx()].sum())
        atom.SetFormalCharge(CHARGES.get((atom.GetSymbol(), bonds), 0))
    try:
        molecule = editable.GetMol()
        Chem.SanitizeMol(molecule)
        settings = AllChem.ETKDGv3()
        settings.randomSeed = seed
        if AllChem.EmbedMolecule(molecule, settings) != 0:
            return None
    except ValueError:  # a valence that rdkit does not know
        return None
    return np.array(molecule.GetConformer().GetPositions())
