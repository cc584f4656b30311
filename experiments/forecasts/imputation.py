"""Imputation of a linear system with holes: a trained network beside the exact conditional law.

    python -m experiments.forecasts.imputation --make=runs/series.npz
    python -m diffjax.train --config=configs/lorenz96.py --workdir=runs/series \\
        --config.data.name=array:runs/series.npz --config.data.conditions=() \\
        --config.data.hidden="share=(0.1,0.9)" --config.network.periodic=False \\
        --config.network.channels=32 --config.network.depth=6 --config.train.steps=2000 \\
        --config.optimizer.schedule.length=2000 --config.train.sample_every=2000 \\
        --config.train.checkpoint_every=1000
    python -m experiments.forecasts.imputation --run=runs/series --gaps=runs/gaps

The series are those of a vector autoregression x' = A x + e with two channels, of which the network
learns to impute any part. The run `gaps` has the same settings, and --config.data.gaps=True, on
series of which 0.3 of the values are missing (--make=runs/gaps.npz --missing=0.3). Given the known
values of a held-out series, the law of the others is normal with the moments of the Schur
complement. The CRPS of the network's ensembles stands beside that of this law and of climatology,
by the share that is not known. Writes imputation.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli
from diffjax.data.hidden import KNOWN
from diffjax.evaluation.forecasts import crps, crps_gaussian
from diffjax.files import write_arrays, write_text
from diffjax.runs.trained import load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, LENGTH, COUNT, MEMBERS, STEPS = "imputation.json", 24, 20_000, 8, 20
A, Q = np.array([[0.9, 0.2], [-0.1, 0.7]]), np.array([[0.3, 0.1], [0.1, 0.5]])
"""The system x' = A x + e, e ~ N(0, Q)."""
SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)


def covariance(length: int = LENGTH) -> np.ndarray:
    """Return the covariance (D, D) of all values of a stationary series, D = 2 length.

    >>> bool(np.allclose(covariance(2)[2:, :2], A @ covariance(1)))
    True
    """
    state = np.linalg.solve(np.eye(4) - np.kron(A, A), Q.ravel()).reshape(2, 2)
    blocks = np.zeros((length, 2, length, 2))
    for i in range(length):
        for j in range(i + 1):
            blocks[i, :, j] = np.linalg.matrix_power(A, i - j) @ state
            blocks[j, :, i] = blocks[i, :, j].T
    return blocks.reshape(2 * length, 2 * length)


def conditional(cov: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (D,) and deviation (D,) of all values given the known ones, NaN elsewhere.

    >>> mean, std = conditional(np.array([[1.0, 0.6], [0.6, 1.0]]), np.array([2.0, np.nan]))
    >>> mean.tolist(), std.round(6).tolist()
    ([2.0, 1.2], [0.0, 0.8])
    """
    there = ~np.isnan(known)
    gain = np.linalg.solve(cov[np.ix_(there, there)], cov[there]).T
    var = np.diag(cov) - np.einsum("ij,ji->i", gain, cov[there])
    return gain @ known[there], np.sqrt(np.maximum(var, 0))


def made(path: Path, missing: float = 0.0) -> None:
    """Write series (N, LENGTH, 2), of which one in ten is held out, and a share is missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, 2 * LENGTH)) @ np.linalg.cholesky(covariance()).T
    x[rng.random(x.shape) < missing] = np.nan
    write_arrays(path, {"x": x.reshape(COUNT, LENGTH, 2).astype(np.float32)})


def measured(run: Path) -> dict[str, Any]:
    """Return the scores of the network, of the exact law, and of climatology, by hidden share."""
    trained = load(run)
    known = trained.experiment.defaults[KNOWN]
    count = len(known)
    y = trained.experiment.source("test")[np.arange(count)]["x"].reshape(count, -1)
    y = y.astype(np.float64)
    began = time.process_time()
    x = trained.sample(count * MEMBERS, steps=STEPS, batch_size=256, guidance=1.0).x
    seconds = round(time.process_time() - began, 1)
    members = np.float64(x).reshape(MEMBERS, count, -1)
    cov, known = covariance(), np.float64(known).reshape(count, -1)
    laws = [conditional(cov, row) for row in known]
    mean, std = (np.stack(part) for part in zip(*laws, strict=True))
    gone, there = np.isnan(known), ~np.isnan(y)
    y = np.nan_to_num(y)
    scores = {
        "network": crps(members, y),
        "exact": crps_gaussian(mean, np.where(gone, std, 1), y),
        "climatology": crps_gaussian(np.zeros_like(y), np.sqrt(np.diag(cov)), y),
    }
    share, rows = gone.mean(1), {}
    for low, high in itertools.pairwise(SHARES):
        inside = gone & there & ((share >= low) & (share < high))[:, None]
        if inside.any():
            rows[f"{low:.0%} to {high:.0%}"] = averaged(scores, inside)
    rows["all"] = averaged(scores, gone & there)
    error = np.sqrt(((members.mean(0) - mean)[gone] ** 2).mean() / (std[gone] ** 2).mean())
    assert (members[:, ~gone] == y[~gone].astype(np.float32)).all()  # known values are kept
    more = {"mean_error": float(error), "seconds": seconds}
    return {"step": trained.step, "cases": count, "members": MEMBERS, "rows": rows} | more


def averaged(scores: Mapping[str, np.ndarray], inside: np.ndarray) -> dict[str, Any]:
    """Return the number of values inside, and each score averaged over them."""
    return {"values": int(inside.sum())} | {k: float(v[inside].mean()) for k, v in scores.items()}


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    rows = report["series"]["rows"]
    rows |= {f"{k}, data with gaps": row for k, row in report["gaps"]["rows"].items()}
    heads = ["not known", "values", "network", "exact law", "network over exact", "climatology"]
    lines = [
        [
            share,
            f"{row['values']:,}",
            f"{row['network']:.4f}",
            f"{row['exact']:.4f}",
            f"{row['network'] / row['exact']:.3f}",
            f"{row['climatology']:.4f}",
        ]
        for share, row in rows.items()
    ]
    return {"imputation": table(heads, lines)}


def main() -> int:
    """Make the series or measure a run on them; return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--make", type=Path, help="write the series to this file and exit")
    flags.add_argument("--missing", type=float, default=0.0, help="the share that is missing in it")
    flags.add_argument("--run", type=Path, default=Path("runs/series"), help="a trained run")
    flags.add_argument("--gaps", type=Path, default=Path("runs/gaps"), help="one of data with gaps")
    flags.add_argument("--out", type=Path, default=Path("experiments/forecasts"))
    asked = flags.parse_args()
    if asked.make:
        asked.make.parent.mkdir(parents=True, exist_ok=True)
        made(asked.make, asked.missing)
        return 0
    cli.set_up_jax()
    asked.out.mkdir(parents=True, exist_ok=True)
    report = {"series": measured(asked.run), "gaps": measured(asked.gaps)}
    write_text(asked.out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    print(tables(asked.out)["imputation"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
