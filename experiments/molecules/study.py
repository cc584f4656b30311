"""What does a judge of molecules that sees coordinates alone say of real ones, and of noisy ones?

    python -m experiments.molecules.study --out=experiments/molecules

Bonds are inferred by distance (`diffjax.evaluation.molecular`) and compared with those of the
dictionary. The molecules are divided into two halves by their names. The second half, compared with
the first, is the floor of every measure of samples; Gaussian noise on its coordinates shows how
sensitive each is. Needs biotite (pip install "diffjax[molecules]"). Writes
molecules.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli
from diffjax.data.bonds import bonds
from diffjax.data.molecules import Molecule, packaged, read
from diffjax.data.source import part
from diffjax.evaluation.chemistry import Judged, compared, judged
from diffjax.files import write_text
from diffjax.training.workdir import provenance
from experiments.markdown import table
from experiments.molecules import conformers, trained

FILE = "molecules.json"
NOISE = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Deviations of the noise on coordinates, in angstrom."""


def agreement(molecules: Sequence[Molecule]) -> dict[str, float]:
    """Return precision and recall of the inferred bonds, and the share of whole molecules."""
    guessed = [bonds(m.x, m.elements) for m in molecules]
    both = sum(int((a & m.bonded).sum()) for a, m in zip(guessed, molecules, strict=True))
    return {
        "precision": both / sum(int(a.sum()) for a in guessed),
        "recall": both / sum(int(m.bonded.sum()) for m in molecules),
        "whole": float(np.mean([judged(m.x, m.elements).whole for m in molecules])),
        "molecules": len(molecules),
        "atoms": sum(len(m.x) for m in molecules),
    }


def noisy(molecules: Sequence[Molecule], deviation: float) -> list[Judged]:
    """Judge the molecules with noise on their coordinates."""
    rng = np.random.default_rng(0)
    moved = [m.x + deviation * rng.normal(size=m.x.shape) for m in molecules]
    return [judged(x, m.elements) for x, m in zip(moved, molecules, strict=True)]


def study(path: Path, out: Path) -> None:
    """Measure the real molecules, and the second half with noise beside the first."""
    molecules = read(path)
    first = part([m.name for m in molecules], "train", 0.5)
    others = sorted({*range(len(molecules))} - {*first})
    known, held = ([molecules[i] for i in rows] for rows in (first, others))
    rows = {f"{s:g}": compared(noisy(held, s), noisy(known, 0.0)) for s in NOISE}
    report: dict[str, Any] = {"bonds": agreement(molecules), "rows": rows}
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    return {"molecules": of_judge(folder)} | trained.tables(folder) | conformers.tables(folder)


def of_judge(folder: Path) -> str:
    """Return the table of real molecules with noise."""
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
    return table(heads, lines)


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/molecules"))
    flags.add_argument("--path", type=Path, help="components.bcif (default: that of biotite)")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    study(asked.path or packaged(), asked.out)
    print(of_judge(asked.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
