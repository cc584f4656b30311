"""Which schedule, loss weight and parameterization, at equal compute?

    python -m experiments.schedules.study --out=experiments/schedules

Networks of one size, trained for as many steps with the same settings, differ in the recipe alone:
schedules x weights, parameterizations, and recipes as published. Data: three Gaussian parts in the
plane, whose score is known, and for some recipes the embedded digits. Writes plane.json,
digits.json and their figures into the folder; what is in a file is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffjax import cli, draws, weights
from diffjax.data import to_float
from diffjax.data.digits import digits as digits_data
from diffjax.evaluation import frechet_with_floor
from diffjax.features import features
from diffjax.files import write_text
from diffjax.nets import NETWORKS
from diffjax.objectives import Denoising
from diffjax.parameterization import PARAMETERIZATIONS, V
from diffjax.progress import Progress
from diffjax.schedules import SCHEDULES, Cosine, Edm, Linear, Logit
from diffjax.sde import VE, VP, Flow
from diffjax.training.workdir import provenance
from experiments import plane
from experiments.markdown import number, over_seeds, table
from experiments.recipes import Items, Recipe, Trained, Training, recipe, train

SHOWN = ("linear", "cosine", "logit", "karras", "geometric", "laplace")
"""Schedules, all in VP."""
WEIGHTS = ("uniform_eps", "uniform_x0", "uniform_v", "min_snr", "elbo")
Made = Mapping[str, Recipe]


def schedules(sigma_data: float) -> Made:
    """`schedule weight`: v-prediction, uniform t."""
    given = {name: SCHEDULES[name]() for name in SHOWN} | {"geometric": plane.EVEN}
    return {
        f"{name} {weight}": recipe(
            VP(schedule, t_min=1e-6),
            V(),
            Denoising(weights.WEIGHTS[weight]),
            sigma_data,
        )
        for name, schedule in given.items()
        for weight in WEIGHTS
    }


def parameterizations(sigma_data: float) -> Made:
    """`parameterization loss` on the cosine schedule: squared error of F, or of v for all."""
    sde = VP(Cosine(), t_max=0.995)
    made = {}
    for name, entry in PARAMETERIZATIONS.items():
        for loss in ("uniform_output", "uniform_v"):
            told = entry(sigma_data=sigma_data)
            made[f"{name} {loss}"] = recipe(sde, told, Denoising(weights.WEIGHTS[loss]), sigma_data)
    return made


def published(sigma_data: float) -> Made:
    """Process, parameterization, weight and times as in the papers, EDM's lengths in units of the
    data's deviation."""
    own = partial(weights.edm, sigma_data=sigma_data)
    names = dict(PARAMETERIZATIONS)
    given = {
        "DDPM": (VP(Linear()), "eps", Denoising()),
        "improved DDPM": (VP(Cosine(), t_max=0.995), "eps", Denoising()),
        "v": (VP(Cosine(), t_max=0.995), "v", Denoising()),
        "min-SNR": (VP(Cosine(), t_max=0.995), "v", Denoising(weights.min_snr)),
        "VE": (VE(plane.EVEN), "score", Denoising(weights.uniform_eps)),
        "VDM": (VP(plane.EVEN), "eps", Denoising(weights.elbo)),
        "EDM": (
            VE(Edm()),
            "edm",
            Denoising(own, draws.LogNormal(mean=-1.2 + float(np.log(2 * sigma_data)))),
        ),
        "flow": (Flow(Logit(), t_max=0.999), "velocity", Denoising()),
        "SD3": (Flow(Logit(), t_max=0.999), "velocity", Denoising(draw=draws.LogitNormal())),
    }
    return {
        name: recipe(sde, names[told](sigma_data=sigma_data), loss, sigma_data)
        for name, (sde, told, loss) in given.items()
    }


TABLES = {"schedules": schedules, "parameterizations": parameterizations, "published": published}
ON_DIGITS = ("DDPM", "improved DDPM", "v", "EDM", "flow", "SD3", "VDM")


class Plane:
    """Three Gaussian parts: exact criteria."""

    name = "plane"

    def __init__(self, num: int):
        self.data, self.num = plane.parts(), num
        self.sigma_data = plane.deviation(self.data)
        self.how = Training(NETWORKS["mlp"](width=64, depth=2))

    def cells(self) -> dict[str, Recipe]:
        return {
            f"{table}: {k}": r
            for table, make in TABLES.items()
            for k, r in make(self.sigma_data).items()
        }

    def measure(self, denoise: Any, seed: int) -> dict[str, Any]:
        errors = np.asarray(plane.eps_errors(denoise, self.data, 0))
        x = plane.samples(denoise, self.num, seed)
        y = plane.exact_draws(self.data, self.num, seed + 1)
        return {
            "path_nats": plane.path_nats(errors),
            "ode_nats": float(plane.ode_nats(denoise, self.data, 0)[0]),
            "w2": plane.sliced(x, y) / self.sigma_data,
            "eps_errors": [float(f"{e:.4g}") for e in errors],
        }

    def reference(self) -> dict[str, Any]:
        """The same of the exact denoiser: errors of solver and number of samples, none of a
        network."""
        measured = self.measure(self.data.denoiser(plane.PROCESS), 0)
        draws = [plane.exact_draws(self.data, self.num, seed) for seed in (1, 2)]
        return measured | {"w2_floor": plane.sliced(*draws) / self.sigma_data}


class Digits:
    """8 x 8 digits as 64 values: held-out squared error of eps, and Frechet distance."""

    name = "digits"

    def __init__(self, num: int):
        self.num = num
        flat = lambda split: to_float(jnp.asarray(digits_data(split).x)).reshape(-1, 64)
        train, self.held_out = digits_data("train"), flat("test")
        self.data = Items(flat("train"), jnp.asarray(train.label))
        self.real = features(train.x, "image")
        self.sigma_data = float(np.std(self.data.x))
        self.how = Training(NETWORKS["mlp"](width=128, depth=3), batch=128)

    def cells(self) -> dict[str, Recipe]:
        made = published(self.sigma_data)
        return {f"published: {name}": made[name] for name in ON_DIGITS}

    def measure(self, denoise: Any, seed: int) -> dict[str, Any]:
        errors = np.asarray(plane.held_out_errors(denoise, self.held_out, 0))
        x = plane.samples(denoise, self.num, seed, shape=(64,)).reshape(-1, 8, 8, 1)
        images = np.clip(np.round(127.5 * (x + 1)), 0, 255).astype(np.uint8)
        found = frechet_with_floor(features(images, "image"), self.real)
        return {
            "diffusion_bits": plane.path_nats(errors) / 64 / float(np.log(2)),
            "frechet": found.distance,
            "floor": found.floor,
            "eps_errors": [float(f"{e:.4g}") for e in errors],
        }

    def reference(self) -> dict[str, Any]:
        return {}


def fill(study: Any, path: Path, steps: int, seeds: int) -> dict[str, Any]:
    """Train and measure every cell that the file does not have."""
    settings = {"steps": steps, "num": study.num, "sigma_data": study.sigma_data}
    stored = json.loads(path.read_text()) if path.exists() else {}
    old = stored if {k: stored.get(k) for k in settings} == settings else {}
    cells, rows = study.cells(), dict(old.get("cells", {}))
    todo = [(k, s) for s in range(seeds) for k in cells if len(rows.get(k, [])) <= s]
    about = provenance()
    report = {**settings, "logsnr": [round(float(l), 3) for l in plane.logsnrs()]}
    report |= {"reference": old.get("reference") or study.reference()}
    with Progress(f"schedules, {study.name}", len(todo), "run") as progress:
        for name, seed in todo:
            made: Trained = train(cells[name], study.data, seed, steps, study.how)
            rows.setdefault(name, []).append(study.measure(made, seed))
            write_text(path, json.dumps(report | {"cells": rows} | about) + "\n")
            progress.advance(1)
            progress.show({"seed": seed})
    return report | {"cells": rows}


CRITERIA = {
    "path_nats": "paths, nats",
    "ode_nats": "ODE, nats",
    "w2": "samples, W2",
}


def of(rows: Mapping[str, Any], key: str, criterion: str) -> list[float]:
    return [row[criterion] for row in rows[key]]


def tables(folder: Path) -> dict[str, str]:
    """Those of README.md, by name, from plane.json and digits.json."""
    report = json.loads((folder / "plane.json").read_text())
    rows, exact = report["cells"], report["reference"]
    grid = lambda criterion: table(
        ["schedule", *WEIGHTS],
        (
            [s, *(over_seeds(of(rows, f"schedules: {s} {w}", criterion)) for w in WEIGHTS)]
            for s in SHOWN
        ),
    )
    made = {f"schedules-{criterion}": grid(criterion) for criterion in CRITERIA}
    line = lambda key: [over_seeds(of(rows, key, criterion)) for criterion in CRITERIA]
    floor = ["exact score", *(number(exact[criterion]) for criterion in CRITERIA)]
    made["published"] = table(
        ["recipe", *CRITERIA.values()],
        [[n, *line(f"published: {n}")] for n in _names(rows, "published")] + [floor],
    )
    heads = [f"{v}, {w}" for w in ("own loss", "loss on v") for v in CRITERIA.values()]
    both = lambda name: [
        *line(f"parameterizations: {name} uniform_output"),
        *line(f"parameterizations: {name} uniform_v"),
    ]
    made["parameterizations"] = table(
        ["F", *heads], ([name, *both(name)] for name in PARAMETERIZATIONS)
    )
    digits = json.loads((folder / "digits.json").read_text())["cells"]
    columns = {"diffusion_bits": "diffusion term, bits/dim", "frechet": "Frechet distance"}

    def measured(name: str) -> list[str]:
        shown = [over_seeds(of(digits, name, criterion)) for criterion in columns]
        ratio = np.mean(of(digits, name, "frechet")) / digits[name][0]["floor"]
        return [*shown, f"{ratio:.2f}"]

    made["digits-recipes"] = table(
        ["recipe", *columns.values(), "of its floor"],
        ([name, *measured(f"published: {name}")] for name in _names(digits, "published")),
    )
    return made


def _names(rows: Mapping[str, Any], group: str) -> list[str]:
    return [k.partition(": ")[2] for k in rows if k.startswith(f"{group}: ")]


def draw_grid(report: Mapping[str, Any], path: Path) -> None:
    """The mean of each criterion by schedule and weight."""
    rows = report["cells"]
    figure = Figure(figsize=(15, 4.6), dpi=80, layout="constrained")
    for axes, (criterion, title) in zip(figure.subplots(1, 3), CRITERIA.items(), strict=True):
        cell = lambda s, w: np.mean(of(rows, f"schedules: {s} {w}", criterion))  # noqa: B023
        found = np.array([[cell(s, w) for w in WEIGHTS] for s in SHOWN])
        axes.imshow(np.log(found), cmap="viridis_r", aspect="auto")
        axes.set_xticks(range(len(WEIGHTS)), [w.replace("_", "\n") for w in WEIGHTS])
        axes.set_yticks(range(len(SHOWN)), SHOWN)
        axes.set_title(f"{title} (exact score: {number(report['reference'][criterion], 2)})")
        middle = np.exp(np.log(found).mean())
        for (i, j), value in np.ndenumerate(found):
            colour = "white" if value > middle else "black"
            axes.text(
                j, i, number(float(value), 2), ha="center", va="center", color=colour, fontsize=10
            )
    figure.savefig(path)


def draw_levels(report: Mapping[str, Any], path: Path) -> None:
    """The error of eps by log-SNR: parameterizations with both losses, and published recipes."""
    rows, l = report["cells"], report["logsnr"]
    figure = Figure(figsize=(15, 4.6), dpi=80, layout="constrained")
    panels = {
        "parameterizations, squared error of F": ("parameterizations", " uniform_output"),
        "parameterizations, squared error of v": ("parameterizations", " uniform_v"),
        "published recipes": ("published", ""),
    }
    for axes, (title, (group, end)) in zip(
        figure.subplots(1, 3, sharey=True), panels.items(), strict=True
    ):
        for i, key in enumerate(k for k in rows if k.startswith(group) and k.endswith(end)):
            name = key.partition(": ")[2].removesuffix(end)
            mean = np.mean(of(rows, key, "eps_errors"), axis=0)
            axes.plot(l, mean, "-" if i < 6 else "--", color=f"C{i}", label=name)
        axes.set(title=title, xlabel="log-SNR", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9, frameon=False)
        axes.invert_xaxis()
    figure.axes[0].set_ylabel("E|eps - exact eps|$^2$")
    figure.savefig(path)


def main() -> None:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--steps", type=int, default=600, help="of training, in the plane")
    flags.add_argument("--digits-steps", type=int, default=800)
    flags.add_argument("--seeds", type=int, default=2)
    flags.add_argument("--num", type=int, default=4096, help="samples of a cell; 1,000 digits")
    given = flags.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    report = fill(Plane(given.num), given.out / "plane.json", given.steps, given.seeds)
    draw_grid(report, given.out / "schedules.png")
    draw_levels(report, given.out / "levels.png")
    fill(Digits(1000), given.out / "digits.json", given.digits_steps, given.seeds)
    for name, text in tables(given.out).items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
