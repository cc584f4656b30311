"""Power spectra of drawn reliefs of the earth beside those of real ones.

    python -m experiments.forecasts.relief --run=runs/relief --out=experiments/forecasts

The run is that of the config `relief`. The spectrum of NUM samples, as the metric `spectrum` has
it, stands beside that of held-out squares; both are ratios to the training squares. Writes
relief.json and relief_spectrum.png.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, plot
from diffjax.data.kinds import FIELD, figures
from diffjax.evaluation.power import spectrum
from diffjax.evaluation.samples import Real, Samples
from diffjax.files import write_text
from diffjax.runs.trained import load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, NUM, SHOWN = "relief.json", 640, 8


def study(run: Path, out: Path, num: int) -> None:
    """Sample, measure, draw, and write the results."""
    trained = load(run)
    e = trained.experiment
    real = Real(e.source, e.reading, len(e.source("train")), out)
    began = time.process_time()
    x = trained.sample(num, batch_size=128).x
    seconds = round(time.process_time() - began, 1)
    found = spectrum(real, Samples(x, None))
    report = {"step": trained.step, "samples": num, "seconds": seconds, "spectrum": found}
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    plot.save(out / "relief_spectrum.png", picture(found, x, real.test.x))


def picture(found: dict[str, Any], x: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Draw real and drawn squares above the ratios of their power to that of training squares."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=100, layout="constrained")
    grid = figure.add_gridspec(3, SHOWN, height_ratios=(1, 1, 2))
    for row, (name, items) in enumerate((("held out", real), ("drawn", x))):
        for k, tile in enumerate(FIELD.tiles(items[:SHOWN])):
            axes = figure.add_subplot(grid[row, k])
            axes.imshow(tile)
            axes.set(xticks=[], yticks=[])
            if not k:
                axes.set_ylabel(name)
    axes = figure.add_subplot(grid[2, :])
    waves = np.arange(1, len(found["ratios"]) + 1)
    axes.plot(waves, found["ratios"], marker="o", label="drawn")
    axes.plot(waves, found["floor_ratios"], marker=".", label="held out")
    axes.axhspan(0.9, 1.1, color="0.9")
    axes.set(xlabel="waves in a square", ylabel="power over that of training squares")
    axes.legend()
    return figures.drawn(figure)


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    found = json.loads((folder / FILE).read_text())["spectrum"]
    line = lambda name, mean, worst, ratios: [
        name,
        f"{mean:.3f}",
        f"{worst:.3f}",
        *(f"{ratios[k - 1]:.2f}" for k in (1, 2, 4, 8, 16)),
    ]
    rows = [
        line("drawn", found["mean"], found["worst"], found["ratios"]),
        line("held out", found["floor"], found["floor_worst"], found["floor_ratios"]),
    ]
    heads = ["", "mean", "worst", *(f"{k} waves" for k in (1, 2, 4, 8, 16))]
    return {"relief": table(heads, rows)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, default=Path("runs/relief"))
    flags.add_argument("--out", type=Path, default=Path("experiments/forecasts"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="number of samples")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num)
    print(tables(asked.out)["relief"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
