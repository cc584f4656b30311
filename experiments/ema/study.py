"""How long should the average of the parameters be?

    python experiments/ema/study.py --workdir=runs/ema --out=experiments/ema

Trains configs/digits_vp.py with power-function averages, takes snapshots of two of them, and makes
a range of lengths afterwards. Two things are measured: how far what is made is from the averages
that training tracked, and the Frechet distance of samples with each length and with the raw
parameters. Writes digits.json and digits.png into the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import jax
import matplotlib.pyplot as plt
import numpy as np

import diffjax
from diffjax import builder, cli, config
from diffjax.data import select, to_uint8
from diffjax.denoiser import Denoiser
from diffjax.evaluation import frechet_with_floor
from diffjax.features import features
from diffjax.files import write_text
from diffjax.generation.program import Generation
from diffjax.io.trees import flat, nested
from diffjax.training.experiment import Experiment
from diffjax.training.lock import lock
from diffjax.training.loop import train
from diffjax.training.snapshots import Profile, Snapshots, fit
from diffjax.training.workdir import load_state, open_run, provenance

USED = ("short", "long")
"""Averages whose snapshots are combined; the others are tracked to compare with."""
TRACKED = {"short": 0.05, "long": 0.10, "tracked_07": 0.07, "tracked_15": 0.15, "tracked_20": 0.20}
STDS = (0.03, 0.05, 0.07, 0.10, 0.15, 0.20)
NUM = 1000


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--workdir", type=Path, required=True)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--steps", type=int, default=600)
    flags.add_argument("--seeds", type=int, default=3)
    given = flags.parse_args()
    cli.set_up_jax()
    experiment = run(given.workdir, given.steps)
    snapshots = Snapshots(given.workdir, names=USED)
    report: dict[str, Any] = {
        "snapshots": len(snapshots.profiles),
        "step": snapshots.step,
        "against_tracked": against_tracked(experiment, snapshots, given.workdir),
        "quality": [{"std": std, "frechet": []} for std in (0.0, *STDS)],
        "num": NUM,
        "config": experiment.config,
    } | provenance()
    for seed in range(given.seeds):
        measure(report, experiment, snapshots, given.workdir, seed)
        write_text(given.out / "digits.json", json.dumps(report, indent=2) + "\n")
    draw(report, given.out / "digits.png")


def run(workdir: Path, steps: int) -> Experiment:
    """The training, or what is left of it."""
    settings = config.load("digits_vp")
    settings["ema"] = {name: {"name": "power", "std": std} for name, std in TRACKED.items()}
    settings["train"] |= {"steps": steps, "snapshot_every": 20}
    experiment = builder.experiment(settings)
    with lock(workdir):
        open_run(workdir, experiment, sys.argv)
        train(experiment, workdir)
    return experiment


def made(snapshots: Snapshots, std: float) -> tuple[dict[str, np.ndarray], float]:
    """The average of this length, by leaf, and the error of its profile."""
    found = fit(snapshots.profiles, Profile(std, snapshots.step))
    c = found.coefficients[None]
    return {leaf: snapshots.combine(leaf, c)[0] for leaf in snapshots.names}, found.error


def against_tracked(
    experiment: Experiment, snapshots: Snapshots, workdir: Path
) -> list[dict[str, float]]:
    """Relative error of all parameters together."""
    state, rows = load_state(experiment, workdir), []
    norm = lambda tree: float(np.sqrt(sum((np.asarray(a, np.float64) ** 2).sum() for a in tree)))
    for name, std in sorted(TRACKED.items(), key=lambda item: item[1]):
        (ours, error), theirs = made(snapshots, std), flat(jax.device_get(state.ema[name]))
        far = norm(ours[leaf] - theirs[leaf] for leaf in theirs) / norm(theirs.values())
        moved = flat(jax.device_get(state.params))
        scale = norm(moved[leaf] - theirs[leaf] for leaf in theirs) / norm(theirs.values())
        rows.append({"std": std, "parameters": far, "profile": error, "raw": scale})
        print(f"std {std:.2f}: off by {far:.2e} of the parameters, profile {error:.2e}", flush=True)
    return rows


def measure(
    report: dict[str, Any], experiment: Experiment, snapshots: Snapshots, workdir: Path, seed: int
) -> None:
    """Frechet distance of the samples of one seed, by length; 0 stands for the raw parameters."""
    data = features(select(experiment.source("train"), experiment.reading, 50_000).x, "image")
    raw = diffjax.load(workdir, ema="raw").denoise
    for row in report["quality"]:
        std = row["std"]
        denoise = experiment.denoiser(nested(made(snapshots, std)[0])) if std else raw
        found, report["floor"] = distance(experiment, denoise, seed, data)
        row["frechet"].append(found)
        print(f"seed {seed}, std {std:.2f}: {found:.4f} (floor {report['floor']:.4f})", flush=True)


def distance(
    experiment: Experiment, denoise: Denoiser, seed: int, data: np.ndarray
) -> tuple[float, float]:
    plan, cond = experiment.plan(denoise.sde), experiment.conditions(NUM)
    x = np.concatenate([*Generation(denoise, plan, seed, NUM, experiment.shape, cond)])
    found = frechet_with_floor(features(to_uint8(x), "image"), data)
    return found.distance, found.floor


def draw(report: dict[str, Any], path: Path) -> None:
    """The mean over the seeds, and each of them."""
    raw, *averaged = report["quality"]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    std = [row["std"] for row in averaged]
    axes.plot(std, [np.mean(row["frechet"]) for row in averaged], "o-", label="average")
    for found in zip(*(row["frechet"] for row in averaged), strict=True):
        axes.plot(std, found, ".", color="0.6", ms=4)
    axes.axhline(np.mean(raw["frechet"]), color="C3", ls="--", label="raw parameters")
    axes.axhline(report["floor"], color="0.4", ls=":", label="floor: data against data")
    axes.set(
        xlabel="length of the average (std)", ylabel="Frechet distance, pixels", ylim=(0, None)
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
