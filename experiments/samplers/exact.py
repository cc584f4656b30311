"""Error against network passes on exact scores: every sampler, several grids; tables and figures.

python experiments/samplers/exact.py [--python=PYTHON] [--grids] [--only=SAMPLER,...] [--out=FOLDER]

Reads what `peers.py` has made; --python: remake that with this interpreter, whose environment has
torch, diffusers and k-diffusion. --grids: remake the grids of grids.json, too. --only: run these
samplers, and keep what exact.json has of the others. --out: where tables and figures go, if not
beside this file.
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import problem
import report
from problem import BUDGETS, HERE, VARIANCES

from diffjax.analytic import Mixture
from diffjax.grids import GRIDS
from diffjax.samplers import SAMPLERS, Table, optimize, run
from diffjax.samplers.tuning import error
from diffjax.schedules import Karras, Linear
from diffjax.sde import SDE, VE, VP, levels

SDES = {"edm": VE(Karras(), t_min=1e-9), "vp": VP(Linear())}
DATA = Mixture(*map(jnp.asarray, (problem.WEIGHT, problem.CENTRE, problem.SCALE**2)))
LEFT_OUT = {
    "consistency": "no solver: its law does not converge to that of the data",
    "ancestral_learned": "needs a network that learns a variance",
    "flow_map": "needs a network with a second time",
    "repaint": "for measurements: without one its repeats change nothing but the cost",
}
VARIANTS = (
    ("ddim", {"eta": 1.0}),
    ("dpmpp_2m", {"exact": True}),
    ("dpmpp_2m", {"eta": 1.0}),
    ("dpmpp_3m", {"eta": 1.0}),
    *(("unipc", {"order": order}) for order in (1, 2, 4)),
    *(("unipc", {"order": order, "bh1": True}) for order in (1, 2, 3, 4)),
    *(
        ("unipc", {"order": order, "bh1": bh1, "lower_final": 2})
        for order in (2, 3, 4)
        for bh1 in (False, True)
    ),
    ("unipc", {"corrector": False}),
    *(("deis", {"order": order}) for order in (2, 4)),
    *((name, {"order": order}) for name in ("lms", "ipndm") for order in (2, 3)),
    *((name, {"order": 4}) for name in ("ab_logsnr", "ab_angle")),
    ("sa_solver", {"tau": 0.0}),
    ("sa_solver", {"tau": 0.0, "predictor": 3, "corrector": 4}),
    ("sa_solver", {"predictor": 3, "corrector": 4, "low": 0.72, "high": 25.0}),  # of diffusers
    ("ancestral_optimal", {"data_var": round(problem.DEVIATION**2, 3)}),
)
MADE_FOR = ("ddim", "heun", "dpmpp_2m", "unipc")
"""Samplers that grids are made for; every sampler and every peer runs on all of these grids."""
STEPS = (3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 17, 18, 20, 24, 25, 30, 34, 35, 40, 50, 70, 100)
PADDED = (12, 30, 100)
"""Rows that tables are filled up to, so that few programs are compiled."""


def make_grids() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Times above 0 for each process, sampler in MADE_FOR and number of steps."""
    made: dict[str, dict[str, dict[str, list[float]]]] = {}
    for process, sde in SDES.items():
        for name in MADE_FOR:
            grids, plan, last = {}, SAMPLERS[name], None
            for steps in STEPS:
                starts = [GRIDS[grid](sde, steps) for grid in ("karras", "exponential")]
                if last is not None:  # what was found for fewer steps, drawn out
                    share = np.linspace(0, len(last) - 2, steps)
                    drawn = np.interp(share, np.arange(len(last) - 1), last[:-1])
                    starts.append(np.append(drawn, 0.0))
                first = min(starts, key=lambda times: error(plan, sde, times, VARIANCES))
                most = max(5, min(50, 400 // steps))
                last = optimize(plan, sde, first, VARIANCES, most).times
                grids[str(steps)] = [float(f"{t:.8g}") for t in last[:-1]]
            made.setdefault(process, {})[name] = grids
            print(process, name, "grids made", flush=True)
    return made


def variants() -> Iterator[tuple[str, Callable[[SDE, np.ndarray], Table]]]:
    """Every sampler of the catalogue with its defaults, and some with other settings."""
    for name, settings in [*((name, {}) for name in SAMPLERS), *VARIANTS]:
        if name not in LEFT_OUT:
            label = ":".join([name, *(f"{k}={v}" for k, v in settings.items())])
            yield label, partial(SAMPLERS[name], **settings)


def grids_of(process: str, optimized: dict[str, Any]) -> dict[str, Callable[[int], Any]]:
    """steps -> times or None, for the grids of the catalogue that differ, and those made here."""
    sde, found = SDES[process], {}
    seen: list[np.ndarray] = []
    for name in ("karras", "exponential", *GRIDS):
        if name in found or name == "explicit":
            continue
        try:
            times = GRIDS[name](sde, 10)
        except ValueError:  # discrete grids need t_min = 1 / 1000
            continue
        if any(np.allclose(times, other, rtol=1e-6, atol=1e-12) for other in seen):
            continue
        seen.append(times)
        found[name] = partial(GRIDS[name], sde)
    for name, grids in optimized[process].items():

        def lookup(steps: int, grids: dict[str, list[float]] = grids) -> np.ndarray | None:
            times = grids.get(str(steps))
            return None if times is None else np.append(times, 0.0)

        found[f"for {name}"] = lookup
    return found


def fit(
    plan: Callable[[SDE, np.ndarray], Table],
    sde: SDE,
    grid: Callable[[int], Any],
    passes: int,
    budget: int,
) -> tuple[np.ndarray, Table] | None:
    """Times and table of the most steps whose rows are within the budget."""
    steps = max(1, (budget - 1) // passes + 1)
    best = None
    while steps > 0:
        times = grid(steps)
        if times is None:  # none was made for as many
            if best is not None:
                return best
            steps -= 1
            continue
        table = plan(sde, times)
        if len(table) <= budget:
            if best is not None and len(best[1]) >= len(table):
                return best
            best = times, table
            if len(table) + passes > budget or steps >= (budget - 1) // passes + 1:
                return best
            steps += 1
        elif best is not None:
            return best
        else:
            steps -= max(1, (len(table) - budget) // max(passes, 3))
    return best


@functools.cache
def draws(rows: int) -> np.ndarray:
    """The noise of rows, the same for all samplers (rows, NUM, 2)."""
    return np.random.default_rng(2).normal(size=(rows, problem.NUM, 2))


def errors(sde: SDE, times: np.ndarray, table: Table) -> tuple[float, float, float]:
    """Of the path (which means nothing with noise), of the law, of the law on Gaussian data."""
    first = levels(sde, times[:1])
    x = jnp.asarray(first.sigma[0] * problem.noise())
    gauss = error(lambda *_: table, sde, times, VARIANCES)
    rows = next(rows for rows in PADDED if rows >= len(table))
    own = {"nodes": np.zeros((rows, 1), int), "shares": np.zeros((rows, 1))}  # not used
    padded = replace(table.pad(rows), **own)
    keys = jax.random.split(jax.random.key(0), problem.NUM)
    made = np.asarray(run(DATA.denoiser(sde), padded, x, keys, noise=draws(rows)).x)
    if not np.isfinite(made).all():
        return np.inf, np.inf, gauss
    most = float(np.exp(-levels(sde, np.array([sde.t_max])).lam[0]))
    return problem.path_error(made, most), problem.law_error(made), gauss


def study(optimized: dict[str, Any], only: set[str], results: dict[str, Any]) -> None:
    """Errors by process, sampler, grid and budget; null where no table fits the budget."""
    for process, sde in SDES.items():
        began, grids = time.time(), grids_of(process, optimized)
        for label, plan in variants():
            if only and label.split(":")[0] not in only:
                continue
            passes, noisy = plan.func.passes, False
            mine = results.setdefault(process, {})[label] = {}
            for grid, times in grids.items():
                try:
                    fitted = [fit(plan, sde, times, passes, budget) for budget in BUDGETS]
                except ValueError as refusal:
                    print(f"{process} {label} {grid}: {refusal}", file=sys.stderr)
                    continue
                noisy |= any(table.noisy.any() for _, table in filter(None, fitted))
                found = [errors(sde, *f) if f else (None,) * 3 for f in fitted]
                columns = zip(("path", "law", "gauss"), zip(*found, strict=True), strict=True)
                mine[grid] = {k: shorten(v, 8 if k == "path" else 4) for k, v in columns}
            for values in mine.values() if noisy else ():
                del values["path"]
            print(f"{process} {label}: {time.time() - began:.0f} s", flush=True)


def shorten(values: tuple[float | None, ...], digits: int) -> list[float | None]:
    """To these digits; null for what is not there or not finite."""
    return [None if v is None or not np.isfinite(v) else float(f"{v:.{digits}g}") for v in values]


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--python", help="runs peers.py: has torch, diffusers and k-diffusion")
    flags.add_argument("--grids", action="store_true", help="make grids.json again")
    flags.add_argument("--only", default="", help="samplers to run, with commas")
    flags.add_argument("--out", type=Path, default=HERE)
    wanted = flags.parse_args()
    jax.config.update("jax_enable_x64", True)
    if wanted.grids:
        report.write(HERE / "grids.json", make_grids())
    optimized = json.loads((HERE / "grids.json").read_text())
    theirs = [wanted.python, str(HERE / "peers.py")] if wanted.python else []
    peers = subprocess.Popen(theirs) if theirs else None  # on a core of its own
    path = wanted.out / "exact.json"
    kept = wanted.only and path.exists()
    found = json.loads(path.read_text())["errors"] if kept else {}
    study(optimized, set(filter(None, wanted.only.split(","))), found)
    floor = float(f"{problem.floor():.4g}")
    report.write(path, {"floor": floor, "left_out": LEFT_OUT, "errors": found})
    if peers and peers.wait():
        raise subprocess.CalledProcessError(peers.returncode, theirs)
    report.everything(wanted.out, HERE / "peers.json")


if __name__ == "__main__":
    main()
