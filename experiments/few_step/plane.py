"""Samples in the plane in 1, 2 and 4 steps: flow maps beside samplers of a denoiser at equal NFE.

    python -m experiments.few_step.plane --out=experiments/few_step

The data are the toy `checkerboard`. The network and its training are those of the study of the
exact map. The distance of 4,096 samples to as many points of the data is the sliced Wasserstein-2
distance, beside that of two draws of the data. Writes plane.json and plane.png.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffjax import cli, grids, samplers
from diffjax.arrays import pytree, stream
from diffjax.data import SOURCES
from diffjax.denoiser import Denoiser
from diffjax.files import write_text
from diffjax.training.workdir import provenance
from experiments.few_step import study
from experiments.markdown import table
from experiments.plane import sliced

NFE = (1, 2, 4)
NUM = 4096
MAPS = ("LSD", "PSD", "iMF")
SAMPLERS = {"DDIM": "ddim", "DPM-Solver++(2M)": "dpmpp_2m", "UniPC": "unipc"}


@pytree
@dataclass(frozen=True)
class Points:
    """Points (N, D) from which items are drawn with replacement."""

    x: Any

    def sample(self, key: Any, n: int) -> tuple[jax.Array]:
        """Draw n points (n, D)."""
        return (self.x[jax.random.randint(key, (n,), 0, len(self.x))],)


def board(split: str, size: int) -> Points:
    source = SOURCES["checkerboard"](split, size=size)
    return Points(jnp.asarray(source.x))


def drawn(params: Any, sampler: str, steps: int) -> np.ndarray:
    """Samples (NUM, 2) in equal steps from t = 1 to 0."""
    denoise = Denoiser(study.MODEL, params)
    plan = samplers.SAMPLERS[sampler](study.FLOW, grids.nested(study.FLOW, steps))
    x = jax.random.normal(jax.random.key(1), (NUM, 2))
    keys = jax.random.split(jax.random.key(0), NUM)
    return np.asarray(samplers.run(denoise, plan, x, keys).x)


Samples = dict[str, dict[int, np.ndarray]]
"""Points (NUM, 2) by method and NFE."""


def measure(steps: int) -> tuple[dict[str, Any], Samples]:
    """Train the maps and the denoiser; return the report, and the samples."""
    train_set, seconds = board("train", 100_000), {}
    real, again = np.split(np.asarray(board("test", 2 * NUM).x), 2)
    x: Samples = {"data": dict.fromkeys(NFE, real)}
    params = study.MODEL.init(stream(0, "init"), jnp.zeros((2, 2)))
    for name in (*MAPS, "denoising"):
        began = time.process_time()
        method = study.METHODS[name]
        trained = jax.block_until_ready(study.train(method, train_set, params, seed=0, steps=steps))
        seconds[name] = round(time.process_time() - began)
        chosen = SAMPLERS if name == "denoising" else {name: "flow_map"}
        x |= {k: {n: drawn(trained, v, n) for n in NFE} for k, v in chosen.items()}
    distance = lambda points: round(sliced(points, real), 4)
    report = {
        "steps": steps,
        "floor": distance(again),
        "sliced": {k: {str(n): distance(v[n]) for n in NFE} for k, v in x.items() if k != "data"},
        "cpu_seconds": seconds,
    }
    return report | provenance(), x


def tables(folder: Path) -> dict[str, str]:
    """The table of the README."""
    report = json.loads((folder / "plane.json").read_text())
    rows = [[k, *(f"{v[str(n)]:.3f}" for n in NFE)] for k, v in report["sliced"].items()]
    rows.append(["two draws of the data", *[f"{report['floor']:.3f}"] * len(NFE)])
    return {"few-step-plane": table(["NFE", *map(str, NFE)], rows)}


def draw(x: Samples, path: Path) -> None:
    figure = Figure((1.5 * len(x), 1.5 * len(NFE) + 0.3), layout="constrained")
    grid = figure.subplots(len(NFE), len(x), sharex=True, sharey=True)
    for column, (name, each) in enumerate(x.items()):
        for row, n in enumerate(NFE):
            axes = grid[row, column]
            axes.scatter(*each[n].T, s=0.5, linewidths=0)
            axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[], aspect="equal")
            if not row:
                axes.set_title(name, fontsize=8)
            if not column:
                axes.set_ylabel(f"NFE {n}", fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/few_step"))
    flags.add_argument("--steps", type=cli.positive, default=2000, help="of training")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    report, x = measure(asked.steps)
    write_text(asked.out / "plane.json", json.dumps(report, indent=1) + "\n")
    draw(x, asked.out / "plane.png")
    print(*tables(asked.out).values(), sep="\n")


if __name__ == "__main__":
    main()
