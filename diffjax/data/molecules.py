"""Small molecules of the Chemical Component Dictionary of the wwPDB, as biotite packages it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax import checks
from diffjax.data.bonds import ELEMENTS, bonds, orders
from diffjax.data.kinds.molecule_files import END, connected, parsed
from diffjax.data.molecule import packed
from diffjax.data.source import Memory, check_split, part

LEAST, HEAVY = 2, 12
"""The least and the largest number of atoms besides hydrogen of the components that are read."""
Columns = Mapping[str, Mapping[str, np.ndarray]]
"""The tables of the dictionary by name, each as columns by name."""
COLUMNS = {
    "chem_comp": (
        *("id", "pdbx_release_status", "pdbx_formal_charge"),
        "pdbx_ideal_coordinates_missing_flag",
    ),
    "chem_comp_atom": (
        *("comp_id", "atom_id", "type_symbol"),
        *(f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz"),
        *(f"model_Cartn_{axis}" for axis in "xyz"),
    ),
    "chem_comp_bond": ("comp_id", "atom_id_1", "atom_id_2", "value_order"),
}
"""The columns that are read."""
ORDERS = {"SING": 1, "DOUB": 2, "TRIP": 3}
"""The orders of bonds by their names in the dictionary."""


class Molecule(NamedTuple):
    """Coordinates x (N, 3) in angstrom, elements (N,), and orders of bonds (N, N), 0 without one.

    name: the identifier of a component, or the title of a molecule. crystal: coordinates (N, 3) of
    another conformer, that of a crystal, NaN where they are not known.
    """

    name: str
    x: np.ndarray
    elements: np.ndarray
    order: np.ndarray
    crystal: np.ndarray

    @property
    def bonded(self) -> np.ndarray:
        """Which atoms are bonded, (N, N)."""
        return self.order > 0


def molecules(
    split: str, path: str = "", heavy: int = HEAVY, atoms: int = 38, holdout: float = 0.1
) -> Memory:
    """Read small neutral molecules as items (atoms, 8) of the kind `molecule`, with their lengths.

    They are those of H, C, N, O and F with 2 to `heavy` atoms besides hydrogen, and at most `atoms`
    atoms. path: an .sdf file of molecules with all hydrogens, or the file components.bcif of the
    Chemical Component Dictionary, by default that of the package biotite. The share `holdout` is
    held out, by names. units["lengths"] counts the training items by their number of atoms. Raises
    ValueError for a missing package or file, and for settings out of range.

    >>> import tempfile
    >>> from diffjax.data.kinds.molecule_files import block
    >>> methanal = np.array([[0, 0, 0], [1.2, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.sdf")
    ...     _ = file.write_text(block(methanal, np.array(["C", "O", "H", "H"]), "methanal"))
    ...     molecules("train", str(file), atoms=6, holdout=0.0)
    Memory(1 molecule items of (6, 8) float32, classes=0, length)
    """
    check_split(split, "molecules")
    known = listed(path, heavy, atoms)
    names = [m.name for m in known]
    counts = np.bincount([len(known[i].x) for i in part(names, "train", holdout)])
    taken = [known[i] for i in part(names, split, holdout)]
    lengths = np.array([len(m.x) for m in taken], np.uint32)
    x = packed([m.x for m in taken], [m.elements.tolist() for m in taken], atoms)
    units = (("lengths", counts.tolist()),)
    return Memory(x, kind="molecule", cond={"length": lengths}, units=units)


def listed(path: str, heavy: int, atoms: int) -> list[Molecule]:
    """Return the molecules of a file that are not too large; see `molecules`."""
    checks.at_least(LEAST, heavy=heavy, atoms=atoms)
    place = Path(path).expanduser() if path else packaged()
    if not place.is_file():
        raise ValueError(f"path={path!r}: no such file; needs an .sdf file, or components.bcif")
    reader = READERS.get(place.suffix.lower())
    if reader is None:
        raise ValueError(f"path={path!r}: unknown ending; allowed: {', '.join(READERS)}")
    every = reader(place)
    known = [m for m in every if fits(m.elements, heavy) and len(m.x) <= atoms]
    if not known:
        raise ValueError(f"path={path!r}: has no molecule of these sizes and elements")
    return known


def packaged() -> Path:
    """Return the file of the dictionary; raise ValueError where biotite is absent."""
    spec = find_spec("biotite")
    if spec is None or spec.origin is None:
        raise ValueError('molecules: needs biotite: pip install "diffjax[molecules]"')
    return Path(spec.origin).parent / "structure" / "info" / "components.bcif"


@functools.lru_cache(maxsize=2)
def read(path: Path) -> list[Molecule]:
    """Read the components of H, C, N, O and F in a file components.bcif; see `chosen`.

    Raises ValueError where biotite is absent, and for a file of other contents.
    """
    try:
        from biotite.structure.io.pdbx import (  # pyright: ignore[reportMissingImports]
            BinaryCIFFile,
        )
    except ImportError:
        raise ValueError('molecules: needs biotite: pip install "diffjax[molecules]"') from None
    try:
        block = BinaryCIFFile.read(path).block
        columns = {
            table: {name: block[table][name].as_array() for name in names}
            for table, names in COLUMNS.items()
        }
    except Exception as error:  # a file of any other form
        raise ValueError(f"path={path}: is no file components.bcif ({error})") from error
    return chosen(columns)


def own(path: Path) -> list[Molecule]:
    """Read the molecules of an .sdf file with their bonds, where all elements are known.

    Bonds are those by distance for a molecule without any in the file. Raises ValueError for a file
    of other contents.
    """
    try:
        texts = path.read_text().split(f"{END}\n")[:-1]
        found = [(text.splitlines()[0].strip(), *parsed(text), connected(text)) for text in texts]
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise ValueError(f"path={path}: is no .sdf file ({error})") from error
    known = lambda order, x, elements: (
        order if order.any() else orders(bonds(x, elements), elements)
    )
    return [
        Molecule(name or str(k), x, elements, known(order, x, elements), np.full_like(x, np.nan))
        for k, (name, x, elements, order) in enumerate(found)
        if np.isin(elements, ELEMENTS).all()
    ]


def fits(elements: np.ndarray, heavy: int = HEAVY) -> bool:
    """Return whether a molecule has known elements alone, and 2 to `heavy` besides hydrogen."""
    count = int((elements != "H").sum())
    return LEAST <= count <= heavy and bool(np.isin(elements, ELEMENTS).all())


def chosen(columns: Columns) -> list[Molecule]:
    """Return the released neutral components that fit, with all hydrogens, in order.

    columns: the tables of the dictionary, those of `COLUMNS`. Components without an ideal
    coordinate, without any hydrogen, and with bonds between unknown atoms, are left out.
    """
    components, atoms, between = (columns[name] for name in COLUMNS)
    good = components["pdbx_release_status"] == "REL"
    good &= np.asarray(components["pdbx_formal_charge"], str) == "0"
    good &= components["pdbx_ideal_coordinates_missing_flag"] == "N"
    released = {*components["id"][good].tolist()}
    x = _places(atoms, "pdbx_model_Cartn_{}_ideal")
    crystal = _places(atoms, "model_Cartn_{}")
    of_bonds, found = _rows(between["comp_id"]), []
    for name, rows in _rows(atoms["comp_id"]).items():
        elements = atoms["type_symbol"][rows]
        if name not in released or not fits(elements) or name not in of_bonds:
            continue
        order = _order(atoms["atom_id"][rows], between, of_bonds[name])
        if order is not None and np.isfinite(x[rows]).all() and (elements == "H").any():
            found.append(Molecule(name, x[rows], elements, order, crystal[rows]))
    return found


def _places(atoms: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the coordinates of all atoms, (N, 3)."""
    return np.stack([np.asarray(atoms[name.format(axis)], np.float64) for axis in "xyz"], 1)


def _rows(names: np.ndarray) -> dict[str, slice]:
    """Return the rows of each component, which are consecutive in the file."""
    begin = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    ends = np.r_[begin[1:], len(names)]
    return {str(names[a]): slice(int(a), int(b)) for a, b in zip(begin, ends, strict=True)}


def _order(ids: np.ndarray, between: Any, rows: slice) -> np.ndarray | None:
    """Return the orders of the bonds of one component; None for a bond of an unknown atom."""
    index = {str(name): i for i, name in enumerate(ids)}
    order = np.zeros((len(ids), len(ids)), int)
    columns = (between[name][rows] for name in ("atom_id_1", "atom_id_2", "value_order"))
    for a, b, kind in zip(*columns, strict=True):
        if a not in index or b not in index:
            return None
        order[index[a], index[b]] = order[index[b], index[a]] = ORDERS[str(kind)]
    return order


READERS = {".sdf": own, ".bcif": read}
"""The readers of molecules by the ending of the file."""
