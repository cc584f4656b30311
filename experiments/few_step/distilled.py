"""The study of few-step methods that begin with one teacher, on any data.

A `Subject` has the methods on one data set; the scripts digits and cifar state one each. All
methods, and samplers of the teacher at equal NFE, are measured by the Frechet distance to the
training data over its floor, and where a classifier of the data is good, by the share of samples
that it assigns to the class asked for. Nothing is guided, so a step is one network pass.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from diffjax import cli
from diffjax.config import Stopped
from diffjax.data.kinds.drawing import grid
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.evaluation.scores import classifier
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.generation import Generated, Job
from diffjax.runs.distilling import reference
from diffjax.runs.launch import interrupted
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.few_step.ways import NFE, SEED, Way, drawing
from experiments.markdown import table

NUM, SHOWN = 1000, 10
"""Of samples: how many are measured, and how many of them each picture shows."""
SOLVERS = {
    "teacher, DDIM": "ddim",
    "teacher, DPM-Solver++(2M)": "dpmpp_2m",
    "teacher, UniPC": "unipc",
}
"""On equal steps in time."""


@dataclass(frozen=True)
class Subject:
    """The methods on one data set.

    name: that of the script, of its files and of its tables. judged: whether a classifier judges
    the classes of samples.
    """

    name: str
    methods: Mapping[str, Way]
    judged: bool = True

    @property
    def order(self) -> tuple[str, ...]:
        """The rows of tables and pictures."""
        return (*SOLVERS, *self.methods)

    @property
    def command(self) -> tuple[str, ...]:
        return (f"experiments.few_step.{self.name}",)

    def file(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"

    def rows(self, folder: Path) -> dict[str, Any]:
        """Return the finished rows of the file, in order; none without a file."""
        file = self.file(folder)
        rows = json.loads(file.read_text())["methods"] if file.exists() else {}
        return {name: rows[name] for name in self.order if "nfe" in rows.get(name, {})}

    def measured(self, real: Real, job: Job, samples: Generated) -> dict[str, Any]:
        """Return NFE, Frechet distance over floor, and agreement with its 95 % interval."""
        judged = Samples(samples.x, samples.label)
        ratio = frechet(real, judged)["ratio"]
        measures = {"passes": job.plan.passes, "ratio": round(ratio, 3)}
        if self.judged:
            judgement = classifier(real, judged)
            interval = judgement["intervals"]["agreement"]
            measures["agreement"] = round(judgement["agreement"], 3)
            measures["interval"] = [round(share, 3) for share in interval]
        return measures


class Study:
    """The study in the folder `out`: its file, and the data that all samples are compared with."""

    def __init__(self, subject: Subject, workdir: Path, runs: Path, out: Path):
        self.subject, self.workdir, self.runs, self.out = subject, workdir, runs, out
        self.teacher = load(workdir)
        self.real = reference(self.teacher.config, self.teacher.experiment.form, None, runs)
        self.about = {"num": NUM, "seed": SEED, "guidance": 1.0, "teacher": self.teacher.step}
        path = subject.file(out)
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.rows = stored["methods"] if stored.get("about") == self.about else {}

    def write(self) -> None:
        """Write the file of the study."""
        report = {"about": self.about, **provenance(), "methods": self.rows}
        write_text(self.subject.file(self.out), json.dumps(report, indent=1) + "\n")

    def sampled(self, name: str, networks: Mapping[int, Trained], sampler: str) -> dict[str, Any]:
        """Return the measures of a method by steps, and store its first samples."""
        measures, shown = {}, {}
        for steps, trained in networks.items():
            job = drawing(trained, sampler, steps)
            if job.plan.passes != steps:
                raise ValueError(f"{name}: {steps} steps of {job} are not as many passes")
            samples = job.samples(NUM, self.runs / "samples" / job.key)
            measures[str(steps)] = self.subject.measured(self.real, job, samples)
            shown[f"steps_{steps}"] = samples.x[:SHOWN]
            print(f"{name}, {steps} steps: {measures[str(steps)]}", flush=True)
        if shown:
            write_arrays(self.runs / "samples" / f"{name}.npz", shown)
        return measures

    def solver(self, name: str) -> None:
        """Measure a sampler of the teacher, unless the file has it."""
        if name not in self.rows:
            networks = {steps: self.teacher for steps in NFE}
            self.rows[name] = {"nfe": self.sampled(name, networks, SOLVERS[name])}
            self.write()

    def trained(self, name: str, way: Way) -> dict[int, Path]:
        """Train a method, and before it the one that it begins with; return the run of each NFE."""
        run, begin = self.runs / name, self.workdir
        if way.begins:
            begin = self.runs / way.begins
            self.trained(way.begins, self.subject.methods[way.begins])
        return way.train(self.workdir, begin, run, self.subject.command)

    def method(self, name: str, steps: int | None = None) -> None:
        """Train and measure a method, unless the file has it with these settings.

        steps: of training, in place of those of the method.
        """
        way = self.subject.methods[name]
        way = way if steps is None else replace(way, steps=steps)
        settings = way.settings()
        row: dict[str, Any] = self.rows.get(name, {})
        if row.get("settings") == settings and "nfe" in row:
            return
        row = row if row.get("settings") == settings else {"settings": settings}
        began = time.process_time()
        try:
            runs = self.trained(name, way)
        finally:
            row["cpu_seconds"] = row.get("cpu_seconds", 0) + round(time.process_time() - began)
            self.rows[name] = row
            self.write()
        networks = {steps: load(run) for steps, run in runs.items()}
        row["nfe"] = self.sampled(name, networks, way.sampler)
        self.write()


def tables(subject: Subject, folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    lines, costs = [], []
    for name, row in subject.rows(folder).items():
        if row["nfe"]:
            lines.append([name, *(_cell(row["nfe"].get(str(n))) for n in NFE)])
        if name not in SOLVERS:
            costs.append([name, str(row["cpu_seconds"])])
    if not lines:
        return {}
    return {
        f"few-step-{subject.name}": table(["NFE", *map(str, NFE)], lines),
        f"few-step-{subject.name}-cost": table(["method", "CPU seconds of training"], costs),
    }


def _cell(measures: Mapping[str, Any] | None) -> str:
    if measures is None:
        return ""
    share = f", {measures['agreement']:.1%}" if "agreement" in measures else ""
    return f"{measures['ratio']:.2f}{share}"


def curves(subject: Subject, folder: Path) -> None:
    """Draw the Frechet distance over its floor against NFE."""
    figure = Figure((8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=matplotlib.colormaps["tab20"](np.arange(20)))
    for name, row in subject.rows(folder).items():
        if at := row["nfe"]:
            style = {"linestyle": "--" if name in SOLVERS else "-", "marker": "o", "label": name}
            axes.loglog([*map(int, at)], [m["ratio"] for m in at.values()], **style)
    axes.set_xticks(NFE, map(str, NFE))
    axes.minorticks_off()
    axes.set_xlabel("network passes (NFE)")
    axes.set_ylabel("Frechet distance / floor")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(folder / f"{subject.name}-curves.png", dpi=100)


def picture(subject: Subject, samples: Path, path: Path) -> None:
    """Draw the first samples of every method: a row per method, a column per number of steps."""
    names = [name for name in subject.order if (samples / f"{name}.npz").exists()]
    figure = Figure((12, 0.9 * len(names) + 0.3), dpi=100, layout="constrained")
    panels = figure.subplots(len(names), len(NFE), squeeze=False)
    for line, name in zip(panels, names, strict=True):
        stored = read_arrays(samples / f"{name}.npz")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for axes, steps in zip(line, NFE, strict=True):
            axes.set(xticks=[], yticks=[], frame_on=False)
            if (x := stored.get(f"steps_{steps}")) is not None:
                axes.imshow(grid(x, columns=5), interpolation="nearest")
    for axes, steps in zip(panels[0], NFE, strict=True):
        axes.set_title(f"{steps} step{'s' * (steps > 1)}", fontsize=9)
    figure.savefig(path)


def flags(subject: Subject, about: str | None) -> argparse.ArgumentParser:
    """Return the parser of the flags of a script."""
    parser = argparse.ArgumentParser(description=about, formatter_class=cli.Formatter)
    parser.add_argument("--workdir", type=Path, required=True, help="the teacher, a run")
    runs = Path(f"runs/few_{subject.name}")
    parser.add_argument("--runs", type=Path, default=runs, help="of the methods")
    parser.add_argument("--out", type=Path, default=Path("experiments/few_step"))
    names = [*subject.methods]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=cli.positive, help="of training, for all methods")
    return parser


def main(subject: Subject, about: str | None) -> int:
    """Run the study, print its tables, and return the exit code."""
    asked = flags(subject, about).parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study = Study(subject, asked.workdir, asked.runs, asked.out)
    for place, name in enumerate(asked.methods, 1):
        print(f"[{place}/{len(asked.methods)}] {name}", flush=True)
        try:
            study.method(name, asked.steps)
        except Stopped as stopped:
            return interrupted(stopped, subject.command[0])
    for name in SOLVERS:
        study.solver(name)
    curves(subject, asked.out)
    picture(subject, asked.runs / "samples", asked.out / f"{subject.name}-samples.png")
    for name, text in tables(subject, asked.out).items():
        print(f"\n{name}\n\n{text}")
    return 0
