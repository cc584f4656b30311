"""How biased are methods for inverse problems, and how good on images at equal cost?

    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
    python -m experiments.inverse.study --out=experiments/inverse --workdir=runs/digits

Writes bias.json, the exact bias of every covariance on Gaussian data. With --workdir, any run of
images, it also writes NAME.json, PSNR, SSIM, misfit and calibration of the methods on held-out
images, and a picture per problem. After an interruption the same command resumes: problems whose
table and picture are there are not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from diffjax import analytic, cli, grids, plot, schedules
from diffjax.data.images import to_uint8
from diffjax.files import write_text
from diffjax.inverse import (
    Flat,
    Infinite,
    Measurement,
    Particles,
    Posterior,
    Prior,
    Rows,
    Scale,
    Tweedie,
    Unit,
    Zero,
    psnr,
    ssim,
)
from diffjax.inverse.covariances import Covariance
from diffjax.runs.restored import Restored
from diffjax.runs.restoring import Restoration, restoration
from diffjax.runs.trained import Trained, load
from diffjax.samplers import affine_moments, ddim
from diffjax.sde import VP
from diffjax.training.workdir import provenance
from experiments.markdown import table

MEAN, Y, STEPS = 0.7, 1.5, 4000
"""The Gaussian case: prior mean, measurement, and DDIM steps uniform in log-SNR."""
CASES = ((0.25, 0.1), (0.25, 0.5), (1.0, 0.5), (4.0, 0.1), (4.0, 0.5))
"""Prior variance and std of the noise."""
COVARIANCES: dict[str, Covariance] = {
    "tweedie": Tweedie(1),
    "tmpd": Rows(),
    "pigdm": Unit(),
    "prior": Prior(),
    "diffpir": Flat(),
    "dps": Zero(),
    "ddnm": Infinite(),
}
PROBLEMS = {
    "half": ("half", 0.1),
    "average": ("average:factor=2", 0.1),
    "identity": ("identity", 0.5),
    "grey": ("grey", 0.1),
}
"""The operator and the std of the noise, by the name of a table and a picture.

`grey` is for images of three colours.
"""
METHODS = {
    "tweedie, 5": "tweedie:iterations=5",
    "tweedie, 1": "tweedie:iterations=1",
    "pigdm": "pigdm",
    "dps": "dps",
    "diffpir": "diffpir",
    "ddnm": "ddnm",
    "ddrm": "ddrm",
    "daps, tweedie": "daps:iterations=5",
    "daps, flat": "daps:covariance=flat",
    "repaint": "repaint",
    "particles, 4": "particles:count=4",
}
"""A number is that of conjugate-gradient iterations, or of particles per sample."""
EXACT = {"denoising": "denoising"}
"""Methods for the identity alone."""
VJP = 2
"""Passes that a vector-Jacobian product counts as."""
DIRECTIONS = 8
"""Random directions along which the truth is ranked among the samples of an image."""
COLUMNS = (
    *("rows", "passes", "PSNR of the mean", "PSNR", "SSIM"),
    *("misfit / std", "spread / error", "outside"),
)


def bias() -> list[dict[str, Any]]:
    """Return the bias of every covariance, by the library and in the limit of many steps.

    error: that of the mean, in posterior standard deviations; ratio: the variance over the exact
    one; limit: both, by integrating the scalar ODE without the library.
    """
    sde = VP(schedules.Cosine(), t_max=0.9999)
    steps, rows = ddim(sde, grids.logsnr_uniform(sde, STEPS)), []
    start = np.exp(-0.5 * float(sde.logsnr(jnp.asarray(sde.t_max))))
    for var, std in CASES:
        denoise = analytic.gaussian(jnp.full(1, MEAN), jnp.full(1, var)).denoiser(sde)
        measurement = Measurement(jnp.full((1, 1), Y), Scale(1.0), std)
        centre, exact = (MEAN * std**2 + Y * var) / (var + std**2), 1 / (1 / var + std**-2)
        scaled = lambda mean, cov, centre=centre, exact=exact: (
            round(float((mean - centre) / exact**0.5), 4) + 0.0,
            round(float(cov / exact), 4),
        )
        for name, covariance in COVARIANCES.items():
            guidance = Posterior(measurement, covariance)
            mean, cov = affine_moments(steps, denoise, (1,), guidance=guidance)
            error, ratio = scaled(mean[0], cov[0, 0])
            limit = scaled(*integrated(name, var, std, start))
            row = {"var": var, "std": std, "method": name, "error": error, "ratio": ratio}
            rows.append(row | {"limit": limit})
    return rows


def integrated(name: str, var: float, std: float, start: float) -> tuple[float, float]:
    """Return mean and variance of the probability-flow ODE of z = x / alpha, without the library.

    dz / d log rho = z - x0', x0' = x0_hat + K (y - x0_hat), from z ~ N(0, 1 / alpha^2) at rho =
    `start`, the scalar case of every covariance.
    """

    def gain(square: float) -> float:
        tweedie, prior = var * square / (var + square), square / (1 + square)
        return {
            "tweedie": tweedie / (tweedie + std**2),
            "tmpd": tweedie / (tweedie + std**2),
            "pigdm": tweedie / (prior + std**2),
            "prior": prior / (prior + std**2),
            "diffpir": square / (square + std**2),
            "dps": tweedie / std**2,
            "ddnm": 1.0,
        }[name]

    def slope(log_rho: float, state: np.ndarray) -> np.ndarray:
        square = np.exp(2 * log_rho)
        k, total = gain(square), var + square
        moved = (1 - k) * (var * state + np.array([0, square * MEAN])) / total
        return state - moved - np.array([0, k * Y])

    span = (np.log(start), np.log(1e-4))
    state = solve_ivp(slope, span, [1.0, 0.0], "DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
    return state[1], state[0] ** 2 * (1 + start**2)


def fitted(trained: Trained, image: str, case: Mapping[str, Any], budget: int) -> Restoration:
    """Return the restoration of the largest cost per sample within the budget."""
    steps = max(1, 8 * budget // cost(restoration(trained, image, **case, steps=8)))
    while cost(ready := restoration(trained, image, **case, steps=steps)) > budget and steps > 1:
        steps -= 1
    return ready


def restored(ready: Restoration) -> Restored:
    """Return the samples of all images, drawn in one batch.

    Particles have one measurement per program, so they are drawn image by image.
    """
    first = ready.measurements[0]
    if isinstance(ready.guided(0), Particles):
        return ready.run()
    y = jnp.concatenate([m.y for m in ready.measurements])
    rows = ready.num * len(y)
    single = Measurement(jnp.repeat(y, ready.num, 0), first.operator, first.std)
    batch = replace(ready, measurements=(single,), num=rows, batch_size=rows).run()
    x = batch.x.reshape(len(y), ready.num, *ready.shape)
    return replace(batch, x=x, y=batch.y[:: ready.num])


def cost(ready: Restoration) -> int:
    """Return the cost of a sample in network passes."""
    return ready.passes + VJP * ready.products


def measures(result: Restored, seed: int) -> dict[str, float]:
    """Return the quality of samples, and the calibration of their spread.

    spread: the standard deviation of the samples over the RMS error of their mean, corrected for
    their number n; 1 for the exact posterior. outside: the share of random directions along which
    the truth lies outside all n samples, 2 / (n + 1) for the exact posterior; outside_error: its
    standard error over images.
    """
    truth, x = result.truth, result.x
    assert truth is not None
    directions = np.random.default_rng(seed).standard_normal((DIRECTIONS, *truth.shape[1:]))
    along = np.einsum("knhwc,dhwc->knd", x, directions)
    rank = (along < np.einsum("khwc,dhwc->kd", truth, directions)[:, None]).sum(1)
    outside = ((rank == 0) | (rank == x.shape[1])).mean(1)
    variance = (1 + 1 / x.shape[1]) * (result.deviation**2).mean()
    return {
        "psnr_mean": float(psnr(result.mean, truth).mean()),
        "psnr": float(psnr(x, truth[:, None]).mean()),
        "ssim": float(ssim(x, truth[:, None]).mean()),
        "misfit": float(result.misfit().mean() / result.std),
        "spread": float(np.sqrt(variance / ((result.mean - truth) ** 2).mean())),
        "outside": float(outside.mean()),
        "outside_error": float(outside.std(ddof=1) / np.sqrt(len(outside))),
    }


def images(trained: Trained, asked: argparse.Namespace) -> None:
    """Write the measures of all methods on the first held-out images, and a picture per problem."""
    path = asked.out / f"{asked.name}.json"
    about = {name: getattr(asked, name) for name in ("images", "num", "budget", "seed")}
    about |= {"step": trained.step}
    stored = json.loads(path.read_text()) if path.exists() else {}
    cells = stored["cells"] if stored.get("about") == about else {}
    for name in asked.problems or [
        n for n in PROBLEMS if n != "grey" or trained.experiment.shape[-1] == 3
    ]:
        drawn = asked.out / f"{asked.name}-{name}.png"
        if drawn.exists() and any(cell.startswith(f"{name}: ") for cell in cells):
            continue
        added, results = {}, {}
        for method, spec in (METHODS | (EXACT if name == "identity" else {})).items():
            added[f"{name}: {method}"], results[method] = computed(trained, name, spec, asked)
            print(f"{name}: {method}", added[f"{name}: {method}"], flush=True)
        cells |= added
        plot.save(drawn, picture(results))
        report = {"provenance": provenance(), "about": about, "cells": cells}
        write_text(path, json.dumps(report, indent=1) + "\n")


def computed(
    trained: Trained, name: str, method: str, asked: argparse.Namespace
) -> tuple[dict[str, float], Restored]:
    """Return the measures and the samples of one method on one problem."""
    listed, (problem, std) = "test:" + ",".join(map(str, range(asked.images))), PROBLEMS[name]
    case = {"problem": problem, "std": std, "method": method, "num": asked.num, "seed": asked.seed}
    ready, began = fitted(trained, listed, case, asked.budget), time.process_time()
    result = restored(ready)
    cell = measures(result, asked.seed) | {"rows": ready.plan.rows, "passes": cost(ready)}
    cell |= {"cpu_seconds": time.process_time() - began}
    return {key: round(v, 4) for key, v in cell.items()}, result


def picture(results: Mapping[str, Restored]) -> np.ndarray:
    """Return a picture of the first image: a column per method of mean, std and three samples."""
    first = next(iter(results.values()))
    assert first.truth is not None
    truth, y = to_uint8(first.truth[:1])[0], to_uint8(first.y[:1])[0]
    white = np.full_like(truth, 255)
    rows = [[truth], [y], [white], [white], [white]]
    captions = [["truth", *(name.replace(", ", "\n") for name in results)], ["y"], [], [], []]
    for result in results.values():
        rows[0].append(to_uint8(result.mean[:1])[0])
        rows[1].append(plot.colours(result.deviation[0].mean(-1)))
        for row, sample in zip(rows[2:], to_uint8(result.x[0, :3]), strict=True):
            row.append(sample)
    labels = ["mean", "std, 0 to\n1 or more", "sample", "sample", "sample"]
    captions = [c + [""] * (len(r) - len(c)) for r, c in zip(rows, captions, strict=True)]
    return plot.captioned(rows, labels, captions)


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README from the files of the study."""
    rows = json.loads((folder / "bias.json").read_text())["rows"]
    cell = lambda row: f"{row['error']:.2f}, {row['ratio']:.2f}".replace("-0.00", "0.00")
    lines = [
        [f"{var:g}, {std:g}", *(cell(r) for r in rows if (r["var"], r["std"]) == (var, std))]
        for var, std in dict.fromkeys((r["var"], r["std"]) for r in rows)
    ]
    by_name = {"inverse-bias": table(["variance, std", *COVARIANCES], lines)}
    for path in sorted(set(folder.glob("*.json")) - {folder / "bias.json"}):
        cells = json.loads(path.read_text())["cells"]
        for problem in dict.fromkeys(name.partition(":")[0] for name in cells):
            by_name[f"inverse-{path.stem}-{problem}"] = of_problem(cells, problem)
    return by_name


def of_problem(cells: Mapping[str, Any], problem: str) -> str:
    """Return the table of one problem, a line per method."""
    lines, start = [], f"{problem}: "
    for name in (name for name in cells if name.startswith(start)):
        c = cells[name]
        numbers = [f"{c[key]:.1f}" for key in ("psnr_mean", "psnr")]
        numbers += [f"{c[key]:.2f}" for key in ("ssim", "misfit", "spread")]
        numbers += [f"{c['outside']:.1%} +- {c['outside_error']:.1%}"]
        counts = [str(c[key]) for key in ("rows", "passes")]
        lines.append([name.removeprefix(start), *counts, *numbers])
    return table(["method", *COLUMNS], lines)


def flags() -> argparse.ArgumentParser:
    """Return the parser of the study's flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, help="a run of images")
    parser.add_argument("--name", default="digits", help="of the run's files in --out")
    parser.add_argument("--images", type=int, default=16, help="held-out images")
    parser.add_argument("--num", type=int, default=15, help="samples per image")
    parser.add_argument("--budget", type=int, default=120, help="passes per sample; a VJP counts 2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, help="(default: all that fit)")
    return parser


def main() -> None:
    """Run the study and print its tables."""
    asked = flags().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    if not (path := asked.out / "bias.json").exists():
        began = time.process_time()
        with jax.enable_x64(True):
            report = {"provenance": provenance(), "rows": bias()}
        report |= {"cpu_seconds": round(time.process_time() - began)}
        write_text(path, json.dumps(report, indent=1) + "\n")
    if asked.workdir:
        images(load(asked.workdir), asked)
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
