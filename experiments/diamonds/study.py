"""Are rows of a diffusion network as good as real rows for training a model of prices?

    python -m experiments.diamonds.study --run=runs/diamonds --out=experiments/diamonds

The run is that of the config `diamonds`. As many rows as there are training rows are drawn, with
each number of STEPS of DPM-Solver++, and measured by the metrics of `evaluate`: the distances of
columns, the downstream score of the logarithm of prices, and the distance to the closest training
row, each beside its floor. Writes diamonds.json, in which another --name has another entry, and the
distances of all columns as a picture.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, plot
from diffjax.data.kinds.figures import drawn
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.files import write_text
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, STEPS = "diamonds.json", (20, 40)
SETTINGS = {"columns": {}, "closest_record": {}, "downstream": {"target": "price", "log": True}}


def measured(trained: Trained, num: int, steps: tuple[int, ...], out: Path) -> dict[str, Any]:
    """Return the metrics of `num` rows for each number of steps."""
    e = trained.experiment
    real = Real(e.source, e.reading, 50_000, out)
    num = num or len(real.train)
    rows: dict[str, Any] = {}
    for count in steps:
        began = time.process_time()
        x = trained.sample(num, steps=count, batch_size=4096).x
        seconds = round(time.process_time() - began, 1)
        samples = Samples(x, None)
        found = {name: OF_SAMPLES[name](real, samples, **more) for name, more in SETTINGS.items()}
        rows[str(count)] = found | {"seconds": seconds}
        print(count, {k: v for k, v in found["columns"].items() if k != "by_column"}, flush=True)
        print(count, found["downstream"], found["closest_record"], seconds, flush=True)
    parameters = int(sum(np.size(a) for a in _leaves(trained)))
    return {"step": trained.step, "num": num, "parameters": parameters, "rows": rows}


def _leaves(trained: Trained) -> list[Any]:
    import jax

    return jax.tree.leaves(trained.denoise.params)


def distances(report: Mapping[str, Any]) -> np.ndarray:
    """Return a picture (H, W, 3) of the distance of each column, for each entry's last row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(report)
    for i, (name, of) in enumerate(report.items()):
        by_column = [*of["rows"].values()][-1]["columns"]["by_column"]
        axes.bar(np.arange(len(by_column)) + i * width, by_column.values(), width, label=name)
        axes.set_xticks(np.arange(len(by_column)) + 0.4 - width / 2, [*by_column])
    axes.axhline(0.02, color="grey", linestyle=":")
    axes.set_ylabel("distance to held-out rows")
    axes.legend(fontsize=8, frameon=False)
    return drawn(figure)


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())["runs"]
    heads = [
        *("", "R² of log price", "largest distance of a column", "mean", "correlation"),
        *("closest training row", "CPU seconds"),
    ]
    lines, last = [], {}
    for name, of in report.items():
        for count, last in of["rows"].items():
            columns = last["columns"]
            lines.append(
                [
                    f"{name}, {count} steps",
                    f"{last['downstream']['score']:.4f}",
                    *(f"{columns[k]:.4f}" for k in ("largest", "mean", "correlation")),
                    f"{last['closest_record']['distance']:.3f}",
                    f"{last['seconds']:.0f}",
                ]
            )
    floor = [f"{last['columns'][f'floor_{k}']:.4f}" for k in ("largest", "mean", "correlation")]
    held_out = f"{last['closest_record']['held_out']:.3f}"
    lines.append(["real rows", f"{last['downstream']['real']:.4f}", *floor, held_out, ""])
    lines.append(["shuffled columns", f"{last['downstream']['shuffled']:.4f}", *[""] * 5])
    return {"diamonds": table(heads, lines)}


def main() -> int:
    """Run the study on one run, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, default=Path("runs/diamonds"), help="a trained run")
    flags.add_argument("--name", default="network", help="of the entry")
    flags.add_argument("--out", type=Path, default=Path("experiments/diamonds"))
    flags.add_argument("--num", type=int, default=0, help="rows (default: as in training)")
    flags.add_argument("--steps", type=cli.positive, nargs="+", default=STEPS)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    found = measured(load(asked.run), asked.num, tuple(asked.steps), asked.out)
    path = asked.out / FILE
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    runs[asked.name] = found | provenance()
    write_text(path, json.dumps({"runs": runs}, indent=1) + "\n")
    plot.save(asked.out / "columns.png", distances(runs))
    print(tables(asked.out)["diamonds"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
