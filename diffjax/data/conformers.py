"""Conformers: coordinates of the atoms of small molecules, given their elements and bonds."""

from __future__ import annotations

import numpy as np

from diffjax.data.bonds import ELEMENTS, bonds
from diffjax.data.conformer import PAIRED, centred, features, one_hot
from diffjax.data.molecules import HEAVY, Molecule, listed
from diffjax.data.source import Memory, check_split, part
from diffjax.specs import Spec


def conformers(
    split: str, path: str = "", heavy: int = HEAVY, atoms: int = 38, holdout: float = 0.1
) -> Memory:
    """Read conformers as items (atoms, 3) of the kind `conformer`, with graphs and lengths.

    The molecules, and all settings, are those of `molecules`. Of each component of the dictionary
    there is the ideal conformer, which was computed, and behind all of these the conformers of
    crystals, where all atoms have places and their distances suit the bonds. The conditions are
    `elements` (atoms, 5), one-hot, and `bonds` (atoms, atoms, 5), see `conformer.features`. The
    share `holdout` of the molecules is held out, by names, with all of their conformers.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diffjax.data.kinds.molecule_files import block
    >>> methanal = np.array([[0, 0, 0], [1.2, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.sdf")
    ...     _ = file.write_text(block(methanal, np.array(["C", "O", "H", "H"]), "methanal"))
    ...     conformers("train", str(file), atoms=6, holdout=0.0)
    Memory(1 conformer items of (6, 3) float32, classes=0, elements, bonds, length)
    """
    check_split(split, "conformers")
    known = listed(path, heavy, atoms)
    taken = [known[i] for i in part([m.name for m in known], split, holdout)]
    pairs = [(m, m.x) for m in taken] + [(m, m.crystal) for m in taken if in_crystal(m)]
    cond = {
        "elements": np.stack([one_hot(m.elements, atoms) for m, _ in pairs]),
        "bonds": np.stack([features(m.order, atoms) for m, _ in pairs]),
        "length": np.array([len(x) for _, x in pairs], np.uint32),
    }
    specs = (Spec("elements", "map", len(ELEMENTS)), Spec("bonds", "pairs", PAIRED))
    x = np.stack([centred(x, atoms) for _, x in pairs])
    return Memory(x, kind="conformer", cond=cond, specs=specs)


def in_crystal(molecule: Molecule) -> bool:
    """Return whether all atoms have places in a crystal, at distances that suit the bonds."""
    x = molecule.crystal
    same = np.isfinite(x).all() and (bonds(x, molecule.elements) == molecule.bonded).all()
    return bool(same)
