"""Forecasts by lanes: the exact law of samplers of lanes, and a trained network against it.

    python -m experiments.lanes.study --run=runs/series --out=experiments/lanes

The run is that of the config `series`, whose data are Gaussian: the future given the past is a
Schur complement. One network forecasts the last half of held-out series by several orders of lanes,
one future for each past. The futures minus the exact means would be N(0, C) with the exact C; the
Kullback-Leibler divergence of the Gaussian with their moments from it is measured, in nats, beside
that of as many exact samples and that of the same sampler with the exact denoiser, by recursion.
Writes lanes.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli, samplers
from diffjax.analytic import LaneDenoiser
from diffjax.data.series import covariance
from diffjax.files import write_text
from diffjax.runs.trained import Trained, load
from diffjax.samplers.plan import Plan
from diffjax.sde import levels
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "lanes.json"
ORDERS = ("full", "pyramid:delay=5", "autoregressive")
SAMPLERS, STEPS, NUM = ("ddim",), 20, 1000


def exact(known: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and covariance of the last values of a series given the first `known`."""
    cov = covariance(size)
    gain = cov[known:, :known] @ np.linalg.inv(cov[:known, :known])
    return gain, cov[known:, known:] - gain @ cov[:known, known:]


def divergence(mean: np.ndarray, found: np.ndarray, cov: np.ndarray) -> float:
    """Return KL(N(mean, found) || N(0, cov)) in nats."""
    inside = np.trace(np.linalg.solve(cov, found + np.outer(mean, mean))) - len(cov)
    return float(0.5 * (inside + np.linalg.slogdet(cov)[1] - np.linalg.slogdet(found)[1]))


def of_samples(off: np.ndarray, cov: np.ndarray) -> float:
    """Return the divergence of samples minus their exact means, (N, D)."""
    return divergence(off.mean(0), np.cov(off.T, bias=True), cov)


def ideal(trained: Trained, known: int, **settings: Any) -> float:
    """Return the divergence of the sampler with the exact denoiser, over all pasts."""
    size = trained.experiment.form.shape[0]
    rows: dict[str, Any] = {"given": "test:0", "known": range(known // 2)}
    plan = trained.job(**rows, **settings).plan
    assert isinstance(plan, Plan)
    table = plan.table
    gain, cov = exact(known, size)
    with jax.enable_x64(True):
        law = jnp.asarray(covariance(size))
        denoise = LaneDenoiser(trained.sde, jnp.zeros((size, 2)), law)
        spread = np.repeat(levels(trained.sde, table.t[0]).sigma, 2)
        spread[:known] = 0
        # Past and noise are drawn jointly, so that one recursion holds for all pasts.
        start = np.diag(spread**2)
        start[:known, :known] = covariance(size)[:known, :known]
        _, joint = samplers.affine_moments(
            table, denoise, (size, 2), start=(np.zeros(2 * size), start)
        )
    move = np.hstack([-gain, np.eye(2 * size - known)])
    return divergence(np.zeros(len(cov)), move @ joint @ move.T, cov)


def study(run: Path, out: Path, num: int) -> dict[str, Any]:
    """Forecast in every order, and measure the forecasts."""
    trained = load(run)
    size = trained.experiment.form.shape[0]
    known = size  # of 2 size values, the first half
    gain, cov = exact(known, size)
    x = trained.experiment.source("test")[np.arange(num)]["x"]
    flat = x.reshape(num, -1)
    rows: dict[str, Any] = {"given": x, "known": range(known // 2), "steps": STEPS}
    report: dict[str, Any] = {"step": trained.step, "futures": num, "rows": {}}
    report["exact samples"] = of_samples(flat[:, known:] - flat[:, :known] @ gain.T, cov)
    for sampler in SAMPLERS:
        for order in ORDERS:
            settings: dict[str, Any] = {"sampler": sampler, "lanes": order}
            began = time.process_time()
            made = trained.sample(num, batch_size=500, **rows, **settings).x.reshape(num, -1)
            found = {
                "passes": trained.job(**rows, **settings).plan.rows,
                "trained": of_samples(made[:, known:] - flat[:, :known] @ gain.T, cov),
                "exact": ideal(trained, known, steps=STEPS, **settings),
                "seconds": round(time.process_time() - began, 1),
            }
            report["rows"][f"{sampler}, {order}"] = found
            print(sampler, order, found, flush=True)
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    return report


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    lines = [
        [name, str(row["passes"]), f"{row['trained']:.3f}", f"{row['exact']:.3f}"]
        for name, row in report["rows"].items()
    ]
    lines.append(["exact samples", "", f"{report['exact samples']:.3f}", "0.000"])
    heads = ["sampler, order", "passes", "trained network, nats", "exact denoiser, nats"]
    return {"lanes": table(heads, lines)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--run", type=Path, required=True, help="workdir of the config series")
    flags.add_argument("--out", type=Path, required=True, help="folder of lanes.json")
    flags.add_argument("--num", type=cli.positive, default=NUM, help="futures, one for each past")
    asked = flags.parse_args()
    cli.set_up_jax()
    asked.out.mkdir(parents=True, exist_ok=True)
    study(asked.run, asked.out, asked.num)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
