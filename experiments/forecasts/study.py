"""How good are ensembles of a diffusion network beside the true ensemble and beside climatology?

    python -m experiments.forecasts.study --run=runs/lorenz96 --num=2048
    python -m experiments.forecasts.study --run=runs/winds --num=96 --steps 5

The runs are those of the configs `lorenz96` and `winds`. For each held-out state, at most 256, the
network draws an ensemble of the later state, with each number of --steps of DPM-Solver++. Its
scores are those of `evaluate`, beside the true ensemble where it is known, climatology and
persistence. Damped persistence is a normal law about rho times the earlier state, whose rho and
deviation are those of least squares over the training pairs at each place along the first axis of
the grid: a harder rival than either. Writes forecasts.json, in which another run has another entry,
and for each run a fan chart of one forecast, the histogram of ranks, and spectra of members and
outcomes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, plot
from diffjax.data.kinds.figures import drawn
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.evaluation.ensembles import grouped, outcomes, true_ensemble
from diffjax.evaluation.forecasts import crps_gaussian, spectrum
from diffjax.files import write_text
from diffjax.report.ranks import histograms
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "forecasts.json"
STEPS = (5, 20)
METRICS = ("crps", "energy", "spread_skill", "rank_histogram")
BANDS = ((0.05, 0.95, 0.2), (0.25, 0.75, 0.5))
"""Quantiles between which a fan chart is shaded, and the opacity."""
BESIDE = {"floor": "true ensemble", "climatology": "climatology", "persistence": "persistence"}


def along(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return flat items (..., D) of this shape as lines (..., n, L) along the last grid axis.

    >>> along(np.arange(8.0)[None], (2, 2, 2))[0].tolist()  # rows, columns, channels
    [[0.0, 2.0], [1.0, 3.0], [4.0, 6.0], [5.0, 7.0]]
    """
    lines = np.moveaxis(x.reshape(*x.shape[:-1], *shape), -1, -2)
    return lines.reshape(*x.shape[:-1], -1, shape[-2])


def fan(members: Mapping[str, np.ndarray], now: np.ndarray | None, y: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) of ensembles (M, L) of a line (L,), a panel for each name.

    now: the earlier state (L,), or None. y: the outcome (L,).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(members)), dpi=100, layout="constrained")
    panels = figure.subplots(len(members), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    at = np.arange(len(y))
    for axes, (name, x) in zip(panels, members.items(), strict=True):
        for low, high, alpha in BANDS:
            edges = np.quantile(x, (low, high), axis=0)
            label = f"{low:.0%} to {high:.0%}"
            axes.fill_between(at, *edges, color="#1f77b4", alpha=alpha, linewidth=0, label=label)
        axes.plot(at, y, color="black", linewidth=1.2, label="outcome")
        if now is not None:
            axes.plot(at, now, color="#d62728", linewidth=0.8, linestyle="--", label="now")
        axes.set(title=name, ylabel="standard deviations")
        axes.margins(x=0)
    panels[0].legend(fontsize=7, ncols=4, frameon=False)
    panels[-1].set_xlabel("place on the ring")
    return drawn(figure)


def pictures(real: Real, samples: Samples, out: Path, name: str) -> dict[str, Any]:
    """Draw one forecast and spectra; return the ratio of spectra, network over outcomes."""
    shape, (x, cases) = real.test.shape, grouped(samples, name)
    y, true = outcomes(real, cases), true_ensemble(real, cases, len(x))
    lines = {"outcomes": along(y, shape), "network": along(x, shape)}
    if true is not None:
        lines["true ensemble"] = along(true, shape)
    spectra = {k: spectrum(v) for k, v in lines.items()}
    numbers = np.arange(1, len(spectra["outcomes"]))
    shown = {k: (numbers, v[1:]) for k, v in spectra.items()}
    settings = {"x": "wave number along the ring", "y": "power", "log": "y"}
    plot.save(out / f"{name}_spectrum.png", plot.lines(shown, **settings))
    case, row = len(cases) // 2, lines["outcomes"].shape[1] // 2
    now = real.test.cond["map"][cases].reshape(len(cases), -1)
    members = {k: lines[k][:, case, row] for k in ("network", "true ensemble") if k in lines}
    if true is None:
        alike = real.train.x[real.train.labels() == real.test.labels()[cases[case]]]
        members["climatology"] = along(alike.reshape(len(alike), -1), shape)[:, row]
    picture = fan(members, along(now, shape)[case, row], lines["outcomes"][case, row])
    plot.save(out / f"{name}_fan.png", picture)
    ratio = spectra["network"] / spectra["outcomes"]
    return {"spectrum_ratio": ratio.round(4).tolist()}


def damped(real: Real, cases: np.ndarray) -> dict[str, float]:
    """Return the CRPS of damped persistence on these held-out items, and its mean rho."""
    now, later = np.float64(real.train.cond["map"]), np.float64(real.train.x)
    others = (0, *range(2, now.ndim))
    mean = lambda a: a.mean(others, keepdims=True)
    rho = mean(now * later) / mean(now**2)
    std = np.sqrt(mean((later - rho * now) ** 2))
    found = crps_gaussian(rho * real.test.cond["map"][cases], std, real.test.x[cases])
    return {"crps": float(found.mean()), "rho": float(rho.mean())}


def measured(
    trained: Trained, num: int, steps: Sequence[int], out: Path, name: str
) -> dict[str, Any]:
    """Return the scores of ensembles with each number of steps, and draw the last ones."""
    e = trained.experiment
    real = Real(e.source, e.reading, 50_000, out)
    cases = min(len(real.test), len(e.defaults["map"]))
    rows, shares, samples = {}, {}, None
    for count in steps:
        began = time.process_time()
        x = trained.sample(num, steps=count, batch_size=64, guidance=1.0).x
        seconds = round(time.process_time() - began, 1)
        samples = Samples(x, None, np.arange(num) % cases)
        found = {m: OF_SAMPLES[m](real, samples) for m in METRICS}
        rows[str(count)] = found | {"seconds": seconds}
        shares[f"{count} steps"] = found["rank_histogram"]["shares"]
        true = found["rank_histogram"].get("floor_shares", ())
        print(name, count, {m: found[m] for m in METRICS[:3]}, seconds, flush=True)
    plot.save(out / f"{name}_ranks.png", histograms(shares, true))
    assert samples is not None
    about = {"step": trained.step, "num": num, "cases": cases}
    about |= {"damped": damped(real, np.arange(cases))}
    return about | {"rows": rows} | pictures(real, samples, out, name)


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name, one for each run."""
    report = json.loads((folder / FILE).read_text())
    return {f"forecasts-{name}": _table(of) for name, of in report["runs"].items()}


def _table(of: Mapping[str, Any]) -> str:
    """Return the scores of the network by steps, and those that stand beside them."""
    heads = ["", "CRPS", "energy score", "spread / error", "distance of ranks", "CPU seconds"]
    number = lambda x: "" if x is None else f"{x:.4f}"
    lines = []
    for steps, row in of["rows"].items():
        crps, low_high = row["crps"], row["crps"]["intervals"]["score"]
        half = (low_high[1] - low_high[0]) / 2
        scores = [f"{crps['score']:.4f} ± {half:.4f}", number(row["energy"]["score"])]
        spread, ranks = row["spread_skill"]["ratio"], row["rank_histogram"]["distance"]
        scores += [f"{spread:.3f}", f"{ranks:.3f}", f"{row['seconds']:.0f}"]
        lines.append([f"network, {steps} steps", *scores])
    last = [*of["rows"].values()][-1]
    for key, name in BESIDE.items():
        if key not in last["crps"]:
            continue
        scores = [number(last[m].get(key)) for m in ("crps", "energy")]
        true = key == "floor"
        spread = f"{last['spread_skill'][key]:.3f}" if true else ""
        ranks = f"{last['rank_histogram'][key]:.3f}" if true else ""
        lines.append([name, *scores, spread, ranks, ""])
    if "damped" in of:
        lines.append(["damped persistence", number(of["damped"]["crps"]), *[""] * 4])
    return table(heads, lines)


def main() -> int:
    """Run the study on one run, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, default=Path("runs/lorenz96"), help="a trained run")
    flags.add_argument("--name", help="of the entry (default: that of the source of data)")
    flags.add_argument("--out", type=Path, default=Path("experiments/forecasts"))
    flags.add_argument("--num", type=cli.positive, default=2560, help="samples in all")
    flags.add_argument("--steps", type=cli.positive, nargs="+", default=STEPS)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    trained = load(asked.run)
    name = asked.name or trained.config["data"]["name"].partition(":")[0]
    found = measured(trained, asked.num, asked.steps, asked.out, name)
    path = asked.out / FILE
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    runs[name] = found | provenance()
    write_text(path, json.dumps({"runs": runs}, indent=1) + "\n")
    print(tables(asked.out)[f"forecasts-{name}"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
