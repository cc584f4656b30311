"""How near are the conformers of a trained network to held-out ones, beside distance geometry?

    python -m experiments.molecules.conformers --run=runs/conformers --out=experiments/molecules

The run is that of the config `conformers`, which needs biotite (pip install "diffjax[molecules]").
One conformer for each held-out one is made from its graph: by the network in several numbers of
steps, by distance geometry from the distances of training (`embedding.embedded`), and, where rdkit
is installed (pip install rdkit), by its ETKDGv3. All are judged by the metric `conformers`, whose
floor is the other conformer of a molecule. Writes conformers.json, and conformers.png with
held-out conformers above samples, which are turned towards them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from diffjax import cli, plot
from diffjax.data.conformer import Conformer, centred, joined, separate
from diffjax.data.kinds.drawing import grid
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.alignment import heavy, rmsd
from diffjax.evaluation.conformers import conformers
from diffjax.files import write_text
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table
from experiments.molecules.embedding import by_rdkit, embedded, learned

FILE = "conformers.json"
STEPS, SHOWN = (50,), 8
NAMES = ("median", "mirrored", "coverage", "matching", "precision", "lengths", "angles")


def graphs(items: Any) -> list[Conformer]:
    """Return the conformers of a source in memory."""
    return [separate(item) for item in joined(items.x, items.cond)]


def by_network(trained: Trained, real: Real, num: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return samples for held-out items 0, ..., num - 1, and these numbers."""
    cond = {name: value[:num] for name, value in real.test.cond.items()}
    return trained.sample(num, cond=cond, steps=steps, batch_size=64).x, np.arange(num)


def by_rules(
    real: Real, num: int, make: Callable[[Conformer, int], np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return conformers that `make` makes of the graph and the number of an item, where it does."""
    most = real.test.shape[0]
    found = [make(m, k) for k, m in enumerate(graphs(real.test)[:num])]
    kept = [k for k, x in enumerate(found) if x is not None]
    return np.stack([centred(x, most) for x in found if x is not None]), np.array(kept)


def study(run: Path, out: Path, num: int, steps: Sequence[int]) -> None:
    """Judge each way to make conformers; what is measured is written at once."""
    trained = load(run)
    e = trained.experiment
    real = Real(e.source, e.reading, len(e.source("train")), out)
    num = min(num, len(real.test))
    report: dict[str, Any] = {"step": trained.step, "batch": e.train.batch_size, "samples": num}
    report |= {"training": len(real.train), "held_out": len(real.test), "rows": {}}
    network = lambda count: lambda: by_network(trained, real, num, count)
    ways = {f"network, {count} steps": network(count) for count in steps}
    ways["distance geometry"] = lambda: geometry(real, num)
    if find_spec("rdkit"):
        ways["ETKDGv3 of rdkit"] = lambda: by_rules(real, num, by_rdkit)
    shown = {}
    for name, way in ways.items():
        began = time.process_time()
        x, asked = way()
        seconds = round(time.process_time() - began, 1)
        shown[name] = x
        found = conformers(real, Samples(x, None, asked))
        report["rows"][name] = found | {"seconds": seconds, "made": len(x)}
        write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
        print(name, report["rows"][name], flush=True)
    count = min(SHOWN, num)
    held, ours = ([*a[:count]] for a in (real.test.x, shown[next(iter(ways))]))
    graph = {name: value[:count] for name, value in real.test.cond.items()}
    pairs = zip(*(map(separate, joined(np.stack(a), graph)) for a in (ours, held)), strict=True)
    moved = [centred(turned(one, onto), real.test.shape[0]) for one, onto in pairs]
    rows = np.concatenate([joined(np.stack(a), graph) for a in (held, moved)])
    plot.save(out / "conformers.png", grid(e.form.items.tiles(rows), count))


def turned(ours: Conformer, onto: Conformer) -> np.ndarray:
    """Return coordinates (N, 3) as near to another conformer as motions and reflections bring them.

    Nearness is that of the atoms besides hydrogen, over the symmetries of the graph.
    """
    atoms, orders = heavy(onto.elements, onto.order > 0)
    places = onto.x[atoms][orders]
    places = places[rmsd(ours.x[atoms], places, mirror=True).argmin()]
    middle, x = places.mean(0), ours.x - ours.x[atoms].mean(0)
    turned_by = lambda hand: Rotation.align_vectors(places - middle, hand * x[atoms])
    hand = min((1, -1), key=lambda hand: turned_by(hand)[1])
    return turned_by(hand)[0].apply(hand * x) + middle


def geometry(real: Real, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return conformers by distance geometry with the bounds of training."""
    bounds = learned(graphs(real.train))
    make = lambda m, k: embedded(m, bounds, np.random.default_rng(k))
    return by_rules(real, num, make)


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    rows = json.loads((folder / FILE).read_text())["rows"]
    heads = ["", "median, Å", "with reflections", "COV", "MAT, Å", "precision", "bonds, Å"]
    shown = lambda row, before: [
        *(f"{row[before + k]:.3f}" for k in NAMES[:2]),
        f"{row[before + 'coverage']:.1%}",
        f"{row[before + 'matching']:.3f}",
        f"{row[before + 'precision']:.1%}",
        f"{row[before + 'lengths']:.3f}",
        f"{row[before + 'angles']:.1f}",
    ]
    lines = [[name, *shown(row, "")] for name, row in rows.items()]
    floor = ["the other conformer", *shown(next(iter(rows.values())), "floor_")]
    return {"conformers": table([*heads, "angles, °"], [floor, *lines])}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument(
        "--run", type=Path, default=Path("runs/conformers"), help="a trained network"
    )
    flags.add_argument("--out", type=Path, default=Path("experiments/molecules"))
    flags.add_argument("--num", type=cli.positive, default=10_000, help="conformers, at most all")
    flags.add_argument("--steps", type=cli.positive, nargs="+", default=STEPS)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num, tuple(asked.steps))
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
