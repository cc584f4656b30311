"""Small molecules of the Chemical Component Dictionary of the wwPDB, as biotite packages it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ELEMENTS = ("H", "C", "N", "O", "F")


class Molecule(NamedTuple):
    """The ideal coordinates x (N, 3) in angstrom, elements (N,), and bonds (N, N) of a component.

    name: its identifier in the dictionary.
    """

    name: str
    x: np.ndarray
    elements: np.ndarray
    bonded: np.ndarray


def packaged() -> Path:
    """Return the file of the dictionary; raise ValueError where biotite is absent."""
    spec = find_spec("biotite")
    if spec is None or spec.origin is None:
        raise ValueError("molecules: needs biotite: pip install biotite")
    return Path(spec.origin).parent / "structure" / "info" / "components.bcif"


def read(path: Path, heavy: tuple[int, int] = (2, 12)) -> list[Molecule]:
    """Read the released neutral molecules of H, C, N, O and F with all hydrogens.

    heavy: the least and the largest number of atoms besides hydrogen. Components without an ideal
    coordinate, and with bonds between unknown atoms, are left out. The order is that of the file.
    """
    from biotite.structure.io.pdbx import BinaryCIFFile  # pyright: ignore[reportMissingImports]

    block = BinaryCIFFile.read(path).block
    column = lambda table, name: block[table][name].as_array()
    good = column("chem_comp", "pdbx_release_status") == "REL"
    good &= column("chem_comp", "pdbx_formal_charge") == 0
    good &= column("chem_comp", "pdbx_ideal_coordinates_missing_flag") == "N"
    released = {*column("chem_comp", "id")[good].tolist()}
    atoms = {k: column("chem_comp_atom", k) for k in ("comp_id", "atom_id", "type_symbol")}
    places = [column("chem_comp_atom", f"pdbx_model_Cartn_{a}_ideal") for a in "xyz"]
    x = np.stack([np.asarray(p, np.float64) for p in places], 1)
    between = {k: column("chem_comp_bond", k) for k in ("comp_id", "atom_id_1", "atom_id_2")}
    of_bonds = _rows(between["comp_id"])
    found = []
    for name, rows in _rows(atoms["comp_id"]).items():
        elements = atoms["type_symbol"][rows]
        count = int((elements != "H").sum())
        fits = heavy[0] <= count <= heavy[1] and np.isin(elements, ELEMENTS).all()
        if name not in released or not fits or name not in of_bonds:
            continue
        bonded = _bonded(atoms["atom_id"][rows], between, of_bonds[name])
        if bonded is not None and np.isfinite(x[rows]).all() and (elements == "H").any():
            found.append(Molecule(name, x[rows], elements, bonded))
    return found


def _rows(names: np.ndarray) -> dict[str, slice]:
    """Return the rows of each component, which are consecutive in the file."""
    begin = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    ends = np.r_[begin[1:], len(names)]
    return {str(names[a]): slice(int(a), int(b)) for a, b in zip(begin, ends, strict=True)}


def _bonded(ids: np.ndarray, between: Any, rows: slice) -> np.ndarray | None:
    """Return the matrix of the bonds of one component; None for a bond of an unknown atom."""
    index = {str(name): i for i, name in enumerate(ids)}
    bonded = np.zeros((len(ids), len(ids)), bool)
    pairs = zip(between["atom_id_1"][rows], between["atom_id_2"][rows], strict=True)
    for a, b in pairs:
        if a not in index or b not in index:
            return None
        bonded[index[a], index[b]] = bonded[index[b], index[a]] = True
    return bonded
