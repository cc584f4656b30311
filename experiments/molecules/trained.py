"""How right and how new are the molecules of a trained network, beside held-out ones?

    python -m experiments.molecules.trained --run=runs/molecules --out=experiments/molecules

The run is that of the config `molecules`, which needs biotite (pip install "diffjax[molecules]").
Samples of several samplers are judged by the metric `molecules`, as are the held-out molecules.
Writes trained.json, and samples.png with real molecules above samples.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, plot
from diffjax.data.kinds.drawing import grid
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.chemistry import molecules
from diffjax.files import write_text
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "trained.json"
NUM, SAMPLERS, SHOWN = 500, ("dpmpp_2m:50", "ancestral:200"), 8
NAMES = ("atoms", "whole", "unique", "novel", "nearest", "lengths", "angles")


def judged(
    trained: Trained, real: Real, num: int, sampler: str, steps: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the metric of `num` samples of a sampler, with CPU seconds, and the samples."""
    began = time.process_time()
    x = trained.sample(num, sampler=sampler, steps=steps, batch_size=64).x
    seconds = time.process_time() - began
    found = molecules(real, Samples(x, None))
    return found | {"seconds": round(seconds, 1)}, x


def study(run: Path, out: Path, num: int, samplers: tuple[tuple[str, int], ...]) -> None:
    """Judge samples of the run by each sampler; what is measured is written at once."""
    trained = load(run)
    e = trained.experiment
    real = Real(e.source, e.reading, len(e.source("train")), out)
    report: dict[str, Any] = {"step": trained.step, "samples": num, "training": len(real.train)}
    report |= {"batch": e.train.batch_size, "held_out": len(real.test), "rows": {}}
    for sampler, steps in samplers:
        found, x = judged(trained, real, num, sampler, steps)
        report["rows"][f"{sampler}, {steps} steps"] = found
        write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
        print(sampler, steps, found, flush=True)
    rows = np.concatenate([real.test.x[:SHOWN], x[: 2 * SHOWN]])
    plot.save(out / "samples.png", grid(e.form.items.tiles(rows), SHOWN))


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    rows = json.loads((folder / FILE).read_text())["rows"]
    heads = ["", "atoms right", "whole", "unique", "novel", "to the nearest", "W1 lengths, Å"]
    shown = lambda row, before: [
        *(f"{row[before + k]:.1%}" for k in NAMES[:4]),
        f"{row[before + 'nearest']:.3f}",
        f"{row[before + 'lengths']:.4f}",
        f"{row[before + 'angles']:.2f}",
    ]
    lines = [[name, *shown(row, "")] for name, row in rows.items()]
    floor = ["held-out molecules", *shown(next(iter(rows.values())), "floor_")]
    return {"molecules-trained": table([*heads, "W1 angles, °"], [floor, *lines])}


def named(text: str) -> tuple[str, int]:
    """Return the name of a sampler and the steps of NAME:STEPS.

    >>> named("ancestral:200")
    ('ancestral', 200)
    """
    name, _, steps = text.partition(":")
    return name, cli.positive(steps)


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, default=Path("runs/molecules"), help="a trained network")
    flags.add_argument("--out", type=Path, default=Path("experiments/molecules"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="samples that are judged")
    flags.add_argument(
        "--samplers", type=named, nargs="+", metavar="NAME:STEPS", default=[*map(named, SAMPLERS)]
    )
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num, tuple(asked.samplers))
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
