"""What does a judge of molecules that sees coordinates alone say of real ones, and of noisy ones?

    python -m experiments.molecules.study --out=experiments/molecules

Bonds are inferred by distance (`diffjax.evaluation.molecules`) and compared with those of the
dictionary. The molecules are divided into two halves by their names. The second half, compared with
the first, is the floor of every measure of samples; Gaussian noise on its coordinates shows how
sensitive each is. Needs biotite (pip install biotite). Writes molecules.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from diffjax import cli
from diffjax.data.source import part
from diffjax.evaluation import molecules as judge
from diffjax.files import write_text
from diffjax.training.workdir import provenance
from experiments.markdown import table
from experiments.molecules.components import Molecule, packaged, read

FILE = "molecules.json"
NOISE = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Deviations of the noise on coordinates, in angstrom."""


def inferred(molecules: Sequence[Molecule]) -> list[Molecule]:
    """Return the molecules with bonds by distance in place of their own."""
    return [m._replace(bonded=judge.bonds(m.x, m.elements)) for m in molecules]


def agreement(molecules: Sequence[Molecule]) -> dict[str, float]:
    """Return precision and recall of the inferred bonds, and the share of whole molecules."""
    guessed, known = inferred(molecules), molecules
    both = sum(int((a.bonded & b.bonded).sum()) for a, b in zip(guessed, known, strict=True))
    return {
        "precision": both / sum(int(m.bonded.sum()) for m in guessed),
        "recall": both / sum(int(m.bonded.sum()) for m in known),
        "whole": float(np.mean([judge.whole(m.bonded, m.elements) for m in guessed])),
        "molecules": len(molecules),
        "atoms": sum(len(m.x) for m in molecules),
    }


def compared(samples: Sequence[Molecule], known: Sequence[Molecule]) -> dict[str, float]:
    """Measure molecules with inferred bonds beside known ones.

    Validity is a share of all samples, uniqueness one of the valid ones, and novelty one of the
    unique ones. Distances W1 are in angstrom, degrees and atoms.
    """
    atoms = np.concatenate([judge.right(m.bonded, m.elements) for m in samples])
    valid = [m for m in samples if judge.whole(m.bonded, m.elements)]
    graphs = {judge.graph(m.bonded, m.elements) for m in valid}
    seen = {judge.graph(m.bonded, m.elements) for m in known}
    joined = lambda of, f: np.concatenate([f(m.x, m.bonded) for m in of])
    apart = lambda f: float(wasserstein_distance(joined(samples, f), joined(known, f)))
    sizes = [np.array([len(m.x) for m in of]) for of in (samples, known)]
    return {
        "atoms": float(atoms.mean()),
        "whole": len(valid) / len(samples),
        "unique": len(graphs) / max(len(valid), 1),
        "novel": len(graphs - seen) / max(len(graphs), 1),
        "lengths": apart(judge.lengths),
        "angles": apart(judge.angles),
        "sizes": float(wasserstein_distance(*sizes)),
    }


def noisy(molecules: Sequence[Molecule], deviation: float) -> list[Molecule]:
    """Return the molecules with noise on their coordinates, and bonds by distance."""
    rng = np.random.default_rng(0)
    moved = [m._replace(x=m.x + deviation * rng.normal(size=m.x.shape)) for m in molecules]
    return inferred(moved)


def study(path: Path, out: Path) -> None:
    """Measure the real molecules, and the second half with noise beside the first."""
    molecules = read(path)
    first = part([m.name for m in molecules], "train", 0.5)
    others = sorted({*range(len(molecules))} - {*first})
    known, held = (inferred([molecules[i] for i in rows]) for rows in (first, others))
    rows = {f"{s:g}": compared(noisy(held, s), known) for s in NOISE}
    report: dict[str, Any] = {"bonds": agreement(molecules), "rows": rows}
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    rows = json.loads((folder / FILE).read_text())["rows"]
    heads = ["noise, Å", "atoms right", "whole", "unique", "novel", "W1 lengths, Å", "W1 angles, °"]
    share = lambda value: f"{value:.2%}"
    lines = [
        [
            name,
            *(share(row[k]) for k in ("atoms", "whole", "unique", "novel")),
            f"{row['lengths']:.4f}",
            f"{row['angles']:.2f}",
        ]
        for name, row in rows.items()
    ]
    return {"molecules": table(heads, lines)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/molecules"))
    flags.add_argument("--path", type=Path, help="components.bcif (default: that of biotite)")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    study(asked.path or packaged(), asked.out)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
