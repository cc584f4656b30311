"""File formats of molecules: XYZ with elements, and SDF (V2000) with bonds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from diffjax.data.bonds import bonds, orders
from diffjax.data.kinds.kind import Files, Texts, Units

Shape = tuple[int, ...]
Taken = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Coordinates (N, 3) in angstrom, elements (N,), and orders of bonds (N, N), None for those by
distance."""
END = "$$$$"
"""The line behind each molecule of an SDF file."""


def formats(
    apart: Callable[[np.ndarray], Taken],
    together: Callable[[Sequence[np.ndarray], Sequence[Sequence[str]], int], np.ndarray],
) -> tuple[Files, Files]:
    """Return the formats .xyz, of one molecule, and .sdf, of several, for a kind of items.

    apart: `item`, to coordinates, elements and orders of bonds. together: `(x, elements, most)`, to
    items (B, most, ...), NaN beyond the atoms of each, which reading returns.
    """

    def write_xyz(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
        """Write the number of atoms, a comment, and a line of element and coordinates for each."""
        path.parent.mkdir(parents=True, exist_ok=True)
        x, elements, _ = apart(item)
        lines = [f"{e} {a:.6f} {b:.6f} {c:.6f}" for e, (a, b, c) in zip(elements, x, strict=True)]
        path.write_text("\n".join([str(len(x)), "angstrom", *lines]) + "\n")

    def read_xyz(path: Path, shape: Shape, units: Units) -> np.ndarray:
        rows = [line.split() for line in path.read_text().splitlines()[2:] if line.strip()]
        x = np.array([row[1:4] for row in rows], np.float64).reshape(-1, 3)
        return together([x], [[row[0] for row in rows]], len(rows))[0]

    def write_sdf(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
        """Write molecules as connection tables V2000."""
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = [apart(item) for item in items]
        blocks = [block(x, e, f"sample {k}", order) for k, (x, e, order) in enumerate(taken)]
        path.write_text("".join(blocks))

    def read_sdf(path: Path, shape: Shape, units: Units) -> np.ndarray:
        """Read the atoms of the molecules; bonds are those of the conditions, or by distance."""
        read = [parsed(text) for text in path.read_text().split(f"{END}\n")[:-1]]
        return together([x for x, _ in read], [e.tolist() for _, e in read], shape[0])

    return (
        Files(".xyz", write_xyz, read_xyz),
        Files(".sdf", write_sdf, read_sdf, each=False),
    )


def block(x: np.ndarray, elements: np.ndarray, name: str, order: np.ndarray | None = None) -> str:
    """Return one molecule of an SDF file, of coordinates x (N, 3) in angstrom and elements (N,).

    order: the orders of bonds (N, N), by default those of `bonds.orders` for bonds by distance.

    >>> lines = block(np.array([[0, 0, 0], [0.92, 0, 0]]), np.array(["H", "F"]), "HF").splitlines()
    >>> lines[6:]
    ['  1  2  1  0', 'M  END', '$$$$']
    """
    if order is None:
        order = orders(bonds(x, elements), elements)
    pairs = [(i, j) for i, j in np.argwhere(np.triu(order)).tolist()]
    counts = f"{len(x):3d}{len(pairs):3d}  0  0  0  0  0  0  0  0999 V2000"
    atoms = [
        f"{a:10.4f}{b:10.4f}{c:10.4f} {e:<3} 0  0  0  0  0  0  0  0  0  0  0  0"
        for e, (a, b, c) in zip(elements, x, strict=True)
    ]
    between = [f"{i + 1:3d}{j + 1:3d}{order[i, j]:3d}  0" for i, j in pairs]
    return "\n".join([name, "  diffjax", "", counts, *atoms, *between, "M  END", END]) + "\n"


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


def connected(text: str) -> np.ndarray:
    """Return the orders of bonds (N, N) of one molecule of an SDF file, 0 without a bond.

    Bonds of other kinds than single, double and triple ones, such as aromatic ones, count as
    single. Raises ValueError or IndexError for other texts.

    >>> line = np.array([[0, 0, 0], [1.2, 0, 0]])
    >>> connected(block(line, np.array(["O", "O"]), "", np.array([[0, 2], [2, 0]]))).tolist()
    [[0, 2], [2, 0]]
    """
    lines = text.splitlines()
    atoms, count = int(lines[3][:3]), int(lines[3][3:6])
    order = np.zeros((atoms, atoms), int)
    for line in lines[4 + atoms : 4 + atoms + count]:
        i, j, kind = (int(line[k : k + 3]) for k in (0, 3, 6))
        order[i - 1, j - 1] = order[j - 1, i - 1] = kind if kind in (1, 2, 3) else 1
    return order
