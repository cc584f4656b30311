"""Sample quality against network passes, for a trained network.

python experiments/samplers/quality.py --workdir=runs/digits --out=experiments/samplers/digits

Every sampler with every budget of passes gives samples 0, 1, ... of one seed. Three numbers: how
far deterministic samplers are from their own limit (root mean square over the same samples, in grey
levels of 255; the limit is rk4 with 1,000 passes); the Frechet distance to the data in pixel space,
as a multiple of its floor; the share of samples whose class is recognised. Then the same for long
runs, with the time they take. OUT.json is filled row by row, and what is in it is not made again;
OUT.png and a table on the screen are drawn from it.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import jax
import matplotlib.pyplot as plt
import numpy as np

import diffjax
from diffjax import builder, evaluation
from diffjax.config import parse
from diffjax.data import to_uint8
from diffjax.evaluation import Real
from diffjax.features import features
from diffjax.files import write_text
from diffjax.generation.program import Generation
from diffjax.progress import Progress
from diffjax.samplers import SAMPLERS
from diffjax.samplers.plan import Plan

CURVE = (5, 10, 20, 50, 100, 200)
LONG = (10, 50, 100, 250, 1000)
ODE = ("ddim", "heun", "dpmpp_2m", "dpmpp_3m", "unipc", "deis")
SDE = ("ancestral", "dpmpp_2m:eta=1", "dpmpp_sde", "sa_solver")
TIMED = ("ddim", "dpmpp_2m", "ancestral")


class Study:
    """One network and its data; `measure` a sampler with a number of passes."""

    def __init__(self, workdir: Path, num: int, batch_size: int):
        trained = diffjax.load(workdir)
        self.e, self.denoise = trained.experiment, trained.denoise
        self.real = Real(self.e.source, self.e.reading, 50_000, workdir)
        self.num, self.batch_size = num, batch_size
        self.cond = self.e.conditions(num)
        self._limit: np.ndarray | None = None

    def plan(self, spec: str, passes: int, pad: int | None) -> tuple[Plan, int]:
        """As many steps as fit into `passes`; the rows filled up to `pad`."""
        sampler, sde = parse(spec), self.denoise.sde
        each = SAMPLERS[sampler["name"]].passes
        steps = (passes - 1) // each + 1  # the last step is one pass
        settings = {"sampler": sampler, "grid": {"name": "uniform"}, "steps": steps}
        made = builder.plan(settings, sde, self.e.form, place="sampling")
        assert isinstance(made, Plan)
        passes = made.passes
        return (Plan(made.table.pad(pad), made.guidance) if pad else made), passes

    def generate(self, plan: Plan) -> tuple[np.ndarray, float]:
        """Samples, and seconds without compiling."""
        made = Generation(self.denoise, plan, 0, self.num, self.e.shape, self.cond, self.batch_size)
        began = time.monotonic()
        x = np.concatenate([*made])
        return x, time.monotonic() - began

    @property
    def limit(self) -> np.ndarray:
        """What deterministic samplers converge to."""
        if self._limit is None:
            self._limit = self.generate(self.plan("rk4", 1000, None)[0])[0]
        return self._limit

    def measure(self, spec: str, passes: int, pad: int | None) -> dict[str, Any]:
        plan, spent = self.plan(spec, passes, pad)
        x, seconds = self.generate(plan)
        row: dict[str, Any] = {"passes": spent, "seconds": round(seconds, 2)}
        if spec in ODE:
            row["error"] = float(127.5 * np.sqrt(np.mean((x - self.limit) ** 2)))
        images = to_uint8(x)
        seen = features(images, "image")
        row |= evaluation.frechet_with_floor(seen, self.real.features)._asdict()
        if self.real.classes and "label" in self.cond:
            row["agreement"] = float(self.real.judge.right(images, self.cond["label"]).mean())
        return row


def draw(rows: dict[str, Any], path: Path) -> None:
    """Error and Frechet ratio against passes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for i, spec in enumerate((*ODE, *SDE)):
        found = [rows[k] for k in (f"{spec} {n}" for n in CURVE) if k in rows]
        if not found:
            continue
        style = {"color": f"C{i}", "marker": "o", "ms": 3, "ls": "-" if spec in ODE else "--"}
        passes = [r["passes"] for r in found]
        right.plot(passes, [r["ratio"] for r in found], label=spec, **style)
        if spec in ODE:
            left.plot(passes, [r["error"] for r in found], label=spec, **style)
    left.set(title="Distance to the limit", ylabel="grey levels of 255, root mean square")
    right.set(title="Frechet distance in pixels", ylabel="multiple of the floor")
    right.axhline(1, color="black", lw=0.5)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="network passes per sample")
        axes.set_xticks(CURVE, [str(n) for n in CURVE], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def cell(row: dict[str, Any]) -> str:
    """Error, where there is one, and Frechet ratio."""
    error = f"{row['error']:.1f}, " if "error" in row else ""
    return f"{error}{row['ratio']:.2f}"


def show(rows: dict[str, Any], num: int) -> None:
    """The tables on the screen, as Markdown."""
    print("\n| sampler | " + " | ".join(f"{n} passes" for n in CURVE) + " |")
    print("|---|" + "---|" * len(CURVE))
    for spec in (*ODE, *SDE):
        found = [rows.get(f"{spec} {n}") for n in CURVE]
        cells = ["-" if r is None else cell(r) for r in found]
        if any(found):
            print(f"| {spec} | " + " | ".join(cells) + " |")
    print("\n| sampler | passes | Frechet, of floor | class agrees | images/s |")
    print("|---|---|---|---|---|")
    for key, r in rows.items():
        if key.endswith(" timed"):
            agrees = f"{r['agreement']:.1%}" if "agreement" in r else "-"
            print(
                f"| {key.split()[0]} | {r['passes']} | {r['ratio']:.2f} | {agrees} | "
                f"{num / r['seconds']:.1f} |"
            )


if __name__ == "__main__":
    logging.getLogger("absl").setLevel(logging.ERROR)
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    flags.add_argument("--workdir", type=Path, required=True, help="folder of a trained run")
    flags.add_argument("--out", type=Path, required=True, help="results: OUT.json and OUT.png")
    flags.add_argument("--num", type=int, default=1000, help="samples")
    flags.add_argument("--batch-size", type=int, default=250)
    flags.add_argument("--most", type=int, default=1000, help="passes of the longest run")
    flags.add_argument("--samplers", default=",".join((*ODE, *SDE)), help="which of them")
    given = flags.parse_args()
    chosen = given.samplers.split(",")
    jobs = [(spec, n, max(CURVE), f"{spec} {n}") for n in CURVE for spec in chosen]
    jobs += [(spec, n, None, f"{spec} {n} timed") for n in LONG for spec in TIMED if spec in chosen]
    jobs = [job for job in jobs if job[1] <= given.most]
    file = given.out.with_suffix(".json")
    rows: dict[str, Any] = json.loads(file.read_text())["rows"] if file.exists() else {}
    study = None
    with Progress("study", len(jobs), "run") as progress:
        for *job, key in jobs:
            if key not in rows:
                study = study or Study(given.workdir, given.num, given.batch_size)
                rows[key] = study.measure(*job)
                about = {"num": given.num, "jax": jax.__version__, "rows": rows}
                write_text(file, json.dumps(about, indent=1) + "\n")
            progress.advance(1)
    draw(rows, given.out.with_suffix(".png"))
    show(rows, given.num)
