"""How near do trained networks come to densities and scores that are known?

    python -m experiments.toys.study --out=experiments/toys

Moons, a spiral and a ring of eight Gaussians in the plane, networks of three sizes, two lengths of
training. Writes plane.json and toys.png into the folder; what is in plane.json is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffjax import cli
from diffjax.analytic import Mixture
from diffjax.files import write_text
from diffjax.likelihood import Ode, logp
from diffjax.nets import NETWORKS
from diffjax.objectives import Denoising
from diffjax.parameterization import V
from diffjax.progress import Progress
from diffjax.schedules import Cosine
from diffjax.sde import VP
from diffjax.training.workdir import provenance
from experiments import plane
from experiments.markdown import number, over_seeds, table
from experiments.recipes import Trained, Training, recipe, train

DATA = {"moons": plane.moons, "spiral": plane.spiral, "ring": plane.ring}
WIDTHS = (16, 64)
CRITERIA = {"path_nats": "paths, nats", "ode_nats": "ODE, nats", "w2": "samples, W2"}
EDGE, PIXELS = 2.0, 72


def trained(data: Mixture, width: int, seed: int, steps: int) -> Trained:
    """An MLP of two blocks, v-prediction on the cosine schedule; data of about unit deviation."""
    told = recipe(VP(Cosine(), t_max=0.995), V(), Denoising(), 1.0)
    return train(told, data, seed, steps, Training(NETWORKS["mlp"](width=width, depth=2)))


def measure(denoise: Any, data: Mixture, num: int, seed: int) -> dict[str, Any]:
    errors = np.asarray(plane.eps_errors(denoise, data, 0))
    x, y = plane.samples(denoise, num, seed), plane.exact_draws(data, num, seed + 1)
    return {
        "path_nats": plane.path_nats(errors),
        "ode_nats": float(plane.ode_nats(denoise, data, 0)[0]),
        "w2": plane.sliced(x, y) / plane.deviation(data),
        "eps_errors": [float(f"{e:.4g}") for e in errors],
    }


def fill(path: Path, num: int, lengths: list[int], seeds: int) -> dict[str, Any]:
    """Every cell that the file does not have, and the same of exact denoisers."""
    settings = {"num": num, "steps": lengths}
    stored = json.loads(path.read_text()) if path.exists() else {}
    old = stored if {k: stored.get(k) for k in settings} == settings else {}
    rows, about = old.get("cells", {}), provenance()
    report = {**settings, "logsnr": [round(float(l), 3) for l in plane.logsnrs()]}
    report["exact"] = old.get("exact") or {name: exact(make(), num) for name, make in DATA.items()}
    todo = [(n, w, k, s) for n in DATA for w in WIDTHS for k in lengths for s in range(seeds)]
    with Progress("toys", len(todo), "run") as progress:
        for name, width, steps, seed in todo:
            cell, data = f"{name}, width {width}, {steps} steps", DATA[name]()
            if len(rows.get(cell, [])) <= seed:
                made = trained(data, width, seed, steps)
                rows.setdefault(cell, []).append(measure(made, data, num, seed))
                write_text(path, json.dumps(report | {"cells": rows} | about) + "\n")
            progress.advance(1)
    return report | {"cells": rows}


def exact(data: Mixture, num: int) -> dict[str, Any]:
    """What solver and finite samples leave of the exact score; two sets of points, apart."""
    draws = [plane.exact_draws(data, num, seed) for seed in (1, 2)]
    floor = plane.sliced(*draws) / plane.deviation(data)
    return measure(data.denoiser(plane.PROCESS), data, num, 0) | {"w2_floor": floor}


def tables(folder: Path) -> dict[str, str]:
    """Those of README.md, by name, from plane.json."""
    report = json.loads((folder / "plane.json").read_text())
    lines = []
    for name in DATA:
        for width in WIDTHS:
            for steps in report["steps"]:
                rows = report["cells"][f"{name}, width {width}, {steps} steps"]
                values = [over_seeds([row[c] for row in rows]) for c in CRITERIA]
                lines.append([name, str(width), f"{steps:,}", *values])
        exact = [number(report["exact"][name][c]) for c in CRITERIA]
        lines.append([name, "exact score", "", *exact])
    return {"toys": table(["data", "width", "steps", *CRITERIA.values()], lines)}


@jax.jit
def by_ode(denoise: Any, z: jax.Array, keys: jax.Array) -> jax.Array:
    return jnp.exp(logp(denoise, z, keys, ode=Ode(steps=25)).logp)


def density(denoise: Any) -> np.ndarray:
    """The density by the ODE on the grid of the figure (PIXELS, PIXELS)."""
    axis = (np.arange(PIXELS) + 0.5) / PIXELS * 2 * EDGE - EDGE
    z = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), jnp.float32)
    keys = jax.random.split(jax.random.key(0), len(z))
    return np.asarray(by_ode(denoise, z, keys)).reshape(PIXELS, PIXELS)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Per data set: exact density, that of the best network, its samples, errors by log-SNR."""
    figure = Figure(figsize=(15, 11), dpi=70, layout="constrained")
    for line, (name, make) in zip(figure.subplots(3, 4), DATA.items(), strict=True):
        data, steps = make(), report["steps"][-1]
        made = trained(data, WIDTHS[-1], 0, steps)
        exact = data.denoiser(plane.PROCESS)
        frame = (-EDGE, EDGE, -EDGE, EDGE)
        pictures = {"exact": density(exact), f"width {WIDTHS[-1]}, {steps:,} steps": density(made)}
        top = max(p.max() for p in pictures.values())
        for axes, (title, picture) in zip(line, pictures.items(), strict=False):
            axes.imshow(picture**0.5, origin="lower", extent=frame, vmin=0, vmax=top**0.5)
            axes.set(title=f"{name}, density: {title}", xticks=[], yticks=[])
        line[2].plot(*plane.samples(made, 2000).T, ".", ms=2)
        line[2].set(
            xlim=frame[:2], ylim=frame[2:], aspect="equal", title="samples", xticks=[], yticks=[]
        )
        for i, width in enumerate(WIDTHS):
            for steps, style in zip(report["steps"], ("--", "-"), strict=True):
                rows = report["cells"][f"{name}, width {width}, {steps} steps"]
                mean = np.mean([row["eps_errors"] for row in rows], axis=0)
                line[3].plot(
                    report["logsnr"],
                    mean,
                    style,
                    color=f"C{i}",
                    label=f"width {width}, {steps:,} steps",
                )
        line[3].set(xlabel="log-SNR", yscale="log", title="E|eps - exact eps|$^2$")
        line[3].invert_xaxis()
        line[3].grid(alpha=0.3)
        line[3].legend(fontsize=8, frameon=False)
    figure.savefig(path)


def main() -> None:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--steps", type=int, nargs=2, default=[200, 1500], help="of training")
    flags.add_argument("--seeds", type=int, default=3)
    flags.add_argument("--num", type=int, default=4096, help="samples of a cell")
    given = flags.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    report = fill(given.out / "plane.json", given.num, given.steps, given.seeds)
    draw(report, given.out / "toys.png")
    print(tables(given.out)["toys"])


if __name__ == "__main__":
    main()
