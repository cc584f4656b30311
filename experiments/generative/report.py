"""Tables and pictures of the study, from its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diffjax.data.kinds.drawing import grid
from diffjax.files import read_arrays
from experiments.generative.data import DATA, images
from experiments.markdown import number, table


def score(made: Mapping[str, Any], criterion: str) -> float:
    """Return the criterion of the samples in most steps; infinity where training failed."""
    return [*made["samples"].values()][-1][criterion] if made["samples"] else float("inf")


def rows(report: Mapping[str, Any], budget: float) -> Any:
    """Yield family, steps of sampling, the samples of all seeds, and their cells."""
    for label, row in report["families"].items():
        cells = [made for place, made in row["cells"].items() if place.startswith(f"{budget:g} ")]
        for steps in row["sampling"]:
            if measured := [made["samples"][steps] for made in cells if made["samples"]]:
                yield label, steps, measured, cells


def of_seeds(measured: list[Mapping[str, Any]], key: str, digits: int = 3) -> str:
    """Show the value of every seed."""
    return ", ".join(number(m[key], digits) for m in measured)


COLUMNS = {
    "gaussians": {
        "found": "modes of 25",
        "near": "within 3 deviations",
        "histogram_kl": "KL of modes",
        "w2": "sliced W2",
    },
    "digits": {
        "frechet": "Frechet / floor, pixels",
        "frechet_judge": "the same, judge",
        "precision": "precision",
        "recall": "recall",
        "found": "classes of 10",
        "histogram_kl": "KL of classes",
        "closer": "near copies",
    },
    "thumbnails": {
        "frechet": "Frechet / floor, pixels",
        "precision": "precision",
        "recall": "recall",
        "found": "groups of 20",
        "histogram_kl": "KL of groups",
        "closer": "near copies",
    },
}
LIKELIHOOD = {
    "gaussians": ("kl", "KL(data, model), nats"),
    "digits": ("bits", "bits/dim"),
    "thumbnails": ("bits", "bits/dim"),
}


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of README.md, by name, from the files."""
    made = {}
    for name in DATA:
        if not (file := folder / f"{name}.json").exists():
            continue
        at, columns, (key, title) = json.loads(file.read_text()), COLUMNS[name], LIKELIHOOD[name]
        for budget, size in zip(at["budgets"], ("small", "large"), strict=False):
            lines = []
            for label, steps, measured, cells in rows(at, budget):
                values = [of_seeds(measured, c) for c in columns]
                has = all(key in cell for cell in cells)
                values.append(of_seeds(cells, key) if has else "not defined")
                lines.append([f"{label}, {steps}", *values])
            if not lines:
                continue
            draws = [number(at["reference"][c]) for c in columns]
            heads = ["family, passes", *columns.values(), title]
            made[f"generative-{name}-{size}"] = table(heads, [*lines, ["data", *draws, ""]])
        made[f"generative-{name}-cost"] = _costs(at)
        made[f"generative-{name}-trials"] = _trials(at, DATA[name].criterion)
    return made


def _costs(at: Mapping[str, Any]) -> str:
    lines = []
    for label, row in at["families"].items():
        cells = [*row["cells"].values()]
        most = [
            c for place, c in row["cells"].items() if place.startswith(f"{at['budgets'][-1]:g}")
        ]
        cost = row["sampling"].items()
        lines.append(
            [
                label,
                f"{row['sampling_parameters']:,}",
                f"{row['parameters']:,}",
                number(row["step_flops"] / 1e6),
                f"{most[0]['steps']:,}" if most else "",
                number(float(np.mean([c["cpu_seconds"] for c in most]))) if most else "",
                ", ".join(f"{n}: {number(c['flops'] / 1e6)}" for n, c in cost),
                ", ".join(f"{n}: {number(c['ms'])}" for n, c in cost),
                f"{sum(c['failed'] for c in cells)} of {len(cells)}",
                str(sum(c["spikes"] for c in cells)),
            ]
        )
    heads = [
        "family",
        "parameters, sampling",
        "all",
        "MFLOPs a step",
        "steps",
        "CPU s",
        "MFLOPs a sample",
        "CPU ms a sample",
        "failed",
        "loss spikes",
    ]
    return table(heads, lines)


def _trials(at: Mapping[str, Any], criterion: str) -> str:
    show = lambda made: f"{made['rate']:g}" + (f", {made['knob']:g}" if made["knob"] else "")
    lines = []
    for label, row in at["families"].items():
        told = [f"{show(m)}: {number(score(m, criterion))}" for m in row["trials"]]
        lines.append([label, *told, *[""] * (4 - len(told))])
    return table(["family", *(f"trial {i}" for i in range(1, 5))], lines)


def draw(labels: Sequence[str], runs: Path, path: Path, data: Sequence[str]) -> None:
    """Draw points or images of every family, a column for each data set, at the largest budget.

    Without any samples in `runs` it says so, and keeps what is at `path`.
    """
    stored = {
        (label, steps, name): x
        for label in labels
        for name in data
        if (file := runs / f"{name}-{label}.npz").exists()
        for steps, x in read_arrays(file).items()
    }
    if not stored:
        print(f"{runs}: no samples of {', '.join(data)} by {', '.join(labels)}, so no picture")
        return
    lines = [*dict.fromkeys((label, steps) for label, steps, _ in stored)]
    names = [name for name in data if any(key[2] == name for key in stored)]
    widths = [1 if name == "gaussians" else 5 for name in names]
    figure = Figure((1.2 * sum(widths) + 1.2, 1.1 * len(lines)), dpi=80, layout="constrained")
    panels = figure.subplots(len(lines), len(widths), squeeze=False, width_ratios=widths)
    for row, (label, steps) in zip(panels, lines, strict=True):
        row[0].set_ylabel(f"{label}, {steps}", rotation=0, ha="right", va="center", fontsize=9)
        for axes, name in zip(row, names, strict=True):
            axes.set(xticks=[], yticks=[], frame_on=False)
            if (x := stored.get((label, steps, name))) is None:
                continue
            if name == "gaussians":
                axes.plot(*x[:2000].T, ".", ms=1)
                axes.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), aspect="equal")
            else:
                shown = grid(images(x[:30], DATA[name].task.shape), columns=15)
                axes.imshow(shown, cmap="gray", interpolation="nearest")
    figure.savefig(path)
