"""File formats of molecules: XYZ with elements, and SDF (V2000) with bonds by distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffjax.data.bonds import bonds, orders
from diffjax.data.kinds.kind import Files, Texts, Units
from diffjax.data.kinds.storing import ended
from diffjax.data.molecule import packed, unpacked

Shape = tuple[int, ...]
END = "$$$$"
"""The line behind each molecule of an SDF file."""


def _write_xyz(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
    """Write the number of atoms, a comment, and a line of element and coordinates for each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, elements = unpacked(ended(item))
    lines = [f"{e} {a:.6f} {b:.6f} {c:.6f}" for e, (a, b, c) in zip(elements, x, strict=True)]
    path.write_text("\n".join([str(len(x)), "angstrom", *lines]) + "\n")


def _read_xyz(path: Path, shape: Shape, units: Units) -> np.ndarray:
    rows = [line.split() for line in path.read_text().splitlines()[2:] if line.strip()]
    x = np.array([row[1:4] for row in rows], np.float64).reshape(-1, 3)
    return packed([x], [[row[0] for row in rows]], len(rows))[0]


def _write_sdf(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    """Write molecules as connection tables V2000, with the orders of `bonds.orders`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts_of = [block(*unpacked(ended(item)), f"sample {k}") for k, item in enumerate(items)]
    path.write_text("".join(texts_of))


def block(x: np.ndarray, elements: np.ndarray, name: str) -> str:
    """Return one molecule of an SDF file, of coordinates x (N, 3) in angstrom and elements (N,).

    >>> lines = block(np.array([[0, 0, 0], [0.92, 0, 0]]), np.array(["H", "F"]), "HF").splitlines()
    >>> lines[6:]
    ['  1  2  1  0', 'M  END', '$$$$']
    """
    order = orders(bonds(x, elements), elements)
    pairs = [(i, j) for i, j in np.argwhere(np.triu(order)).tolist()]
    counts = f"{len(x):3d}{len(pairs):3d}  0  0  0  0  0  0  0  0999 V2000"
    atoms = [
        f"{a:10.4f}{b:10.4f}{c:10.4f} {e:<3} 0  0  0  0  0  0  0  0  0  0  0  0"
        for e, (a, b, c) in zip(elements, x, strict=True)
    ]
    between = [f"{i + 1:3d}{j + 1:3d}{order[i, j]:3d}  0" for i, j in pairs]
    return "\n".join([name, "  diffjax", "", counts, *atoms, *between, "M  END", END]) + "\n"


def _read_sdf(path: Path, shape: Shape, units: Units) -> np.ndarray:
    """Read the atoms of the molecules, NaN beyond those of each; bonds are those by distance."""
    read = [parsed(text) for text in path.read_text().split(f"{END}\n")[:-1]]
    return packed([x for x, _ in read], [e.tolist() for _, e in read], shape[0])


def parsed(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (N, 3) and elements (N,) of one molecule of an SDF file.

    Raises ValueError or IndexError for other texts.

    >>> x, elements = parsed(block(np.array([[0, 0, 0], [0.92, 0, 0]]), np.array(["H", "F"]), ""))
    >>> x[1].tolist(), elements.tolist()
    ([0.92, 0.0, 0.0], ['H', 'F'])
    """
    lines = text.splitlines()
    rows = [line.split() for line in lines[4 : 4 + int(lines[3][:3])]]
    x = np.array([row[:3] for row in rows], np.float64).reshape(-1, 3)
    return x, np.array([row[3] for row in rows], str)


XYZ = Files(".xyz", _write_xyz, _read_xyz)
SDF = Files(".sdf", _write_sdf, _read_sdf, each=False)
