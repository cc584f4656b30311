"""How good are digits in one to eight steps, by each method of few steps from the same teacher?

    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
    python -m experiments.few_step.digits --workdir=runs/digits --runs=runs/few_digits \\
        --out=experiments/few_step

Every method begins with the weights of the teacher and trains for minutes on two CPU cores. All of
them, and samplers of the teacher at equal NFE, are measured by the Frechet distance to the training
digits over its floor, and by the share of samples that a classifier assigns to the class asked for.
Nothing is guided, so a step is one network pass. Writes digits.json, of which what is there is
neither trained nor sampled again, digits-samples.png and digits-curves.png. After an interruption
the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diffjax import cli, plot
from diffjax.config import Stopped, override
from diffjax.config import load as load_config
from diffjax.data.kinds.drawing import grid
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.evaluation.scores import classifier
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.generation import Generated, Job
from diffjax.runs import coupled
from diffjax.runs.distilling import EVALUATION, chain, reference
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import table

FILE, NFE = "digits.json", (1, 2, 4, 8)
SEED, NUM, SHOWN = 0, 1000, 10
"""Of samples: their seed, how many are measured, and how many of them each picture shows."""
SOLVERS = {
    "teacher, DDIM": "ddim",
    "teacher, DPM-Solver++(2M)": "dpmpp_2m",
    "teacher, UniPC": "unipc",
}
"""On equal steps in time."""
PAIRS, PAIR_STEPS = 2000, 16
"""Of reflow: how many pairs, and the teacher's steps for each (DPM-Solver++(2M))."""


@dataclass(frozen=True)
class Run:
    """A method that trains one network, from the teacher's weights or those of another method.

    config: the name of its config, whose fields `changes` replaces. steps: of training, with
    `batch` items each. rate: the first learning rate, which falls linearly to 0. taught: whether
    the objective holds the teacher. paired: whether the data are the teacher's pairs of noise and
    sample. begins: the method with whose weights it begins. sampler, nfe: those by which its
    samples are drawn.
    """

    config: str
    steps: int
    changes: tuple[str, ...] = ()
    taught: bool = True
    paired: bool = False
    rate: float = 1e-3
    batch: int = 64
    begins: str = ""
    sampler: str = "flow_map"
    nfe: tuple[int, ...] = NFE

    def settings(self) -> list[str]:
        """Return the changes of the config, but for the paths of the teacher and of pairs."""
        fixed = {
            "train.steps": self.steps,
            "train.batch_size": self.batch,
            "train.checkpoint_every": self.steps,
            "train.sample_every": self.steps,
            "optimizer.learning_rate": self.rate,
            "optimizer.schedule": f"linear:length={self.steps},final=0.0",
        }
        pairs = [f"{PAIRS} pairs of {PAIR_STEPS} steps"] if self.paired else []
        return [*(f"{field}={value}" for field, value in fixed.items()), *self.changes, *pairs]

    def train(self, workdir: Path, run: Path) -> dict[int, Path]:
        """Train from the teacher in `workdir`, or resume; return the run of each NFE."""
        changes = self.settings()
        if self.paired:
            changes[-1] = f"data.name=array:{pairs(workdir, run.with_name('pairs'))}"
        if self.taught:
            changes.append(f"loss.teacher={workdir}")
        if last_step(run) < self.steps:
            begin = workdir
            if self.begins:
                begin = run.with_name(self.begins)
                METHODS[self.begins].train(workdir, begin)
            config = override(load_config(self.config), changes)
            launch(config, run, resume_from=begin, resume_partial=True, command=COMMAND)
        return dict.fromkeys(self.nfe, run)


@dataclass(frozen=True)
class Halvings:
    """Progressive distillation: a chain of students of half the steps of their teachers, to one.

    first: the steps of the first teacher. steps: of training, for each student.
    """

    first: int
    steps: int
    changes: tuple[str, ...] = ()
    sampler: str = "ddim"

    def settings(self) -> list[str]:
        return [f"from={self.first}", f"train.checkpoint_every={self.steps}", *self.changes]

    def train(self, workdir: Path, run: Path) -> dict[int, Path]:
        """Train the students of the teacher in `workdir`; return the run of each NFE."""
        changes = self.settings()[1:]
        distilled = chain(workdir, run, self.first, 1, train_steps=self.steps, changes=changes)
        distilled.claim()
        distilled.train(COMMAND)
        return {n: distilled.workdir(n) for n in reversed(distilled.counts) if n in NFE}


CORNERS = ("loss.draw=logit_normal:mean=0.0,std=2.0", "loss.condition_dropout=0.0")
"""Times of flow maps: more of them near both ends, from which and to which one step leads."""
ENDS = "loss.draw=logit_normal:mean=0.0,std=4.0"
"""Still more of them there."""
TAUGHT = (*CORNERS, "loss.velocity=teacher", "loss.diagonal=0.25")
CONSISTENT = ("loss.rule=discrete:gap=False", "loss.diagonal=0.0", "loss.condition_dropout=0.0")
NEIGHBOURS = "loss.velocity=teacher", "loss.pair=neighbours:first=18"
RATIO = "loss.velocity=conditional", "loss.pair=ratio:first=3,most=6,every=125"
EVEN = "loss.draw=uniform:importance=False"
SMOOTH = ("parameterization.c_noise=t", "network.conditions.to.scale=1.0")
"""For the Eulerian rule, which differentiates the network in t."""
HALVED = ("train.batch_size=64", "optimizer.learning_rate=1e-3", "loss.condition_dropout=0.0")
FRESH = "flow_map:gamma=1.0"
"""A map to the data alone, with fresh noise between steps."""
GENERATOR = Run("digits_dmd", 600, ("loss.critic_steps=2",), rate=5e-4, sampler="ddim", nfe=(1,))
METHODS: dict[str, Run | Halvings] = {
    "progressive": Halvings(16, 150, HALVED),
    "LMD": Run("digits_lmd", 500, TAUGHT),
    "LMD, 2nd run": Run("digits_lmd", 500, TAUGHT, begins="LMD"),
    "LMD, 3rd run": Run("digits_lmd", 500, TAUGHT, begins="LMD, 2nd run"),
    "LMD, 2nd run, ends": Run("digits_lmd", 500, (*TAUGHT, ENDS), begins="LMD"),
    "LSD": Run("digits_lsd", 500, CORNERS, taught=False),
    "PSD": Run("digits_lmd", 400, (*TAUGHT, "loss.rule=semigroup")),
    "shortcut": Run(
        "digits_lmd", 500, (*TAUGHT, "loss.rule=semigroup", "loss.pair=dyadic:steps=32")
    ),
    "MeanFlow": Run("digits_lmd", 400, (*TAUGHT, *SMOOTH, "loss.rule=eulerian")),
    "iMF": Run("digits_lsd", 400, (*CORNERS, *SMOOTH, "loss.rule=eulerian"), taught=False),
    "CD": Run("digits_lmd", 500, (*CONSISTENT, *NEIGHBOURS, EVEN), sampler=FRESH),
    "ECT": Run("digits_lsd", 500, (*CONSISTENT, *RATIO, EVEN), taught=False, sampler=FRESH),
    "DMD": GENERATOR,
    "SiD": replace(GENERATOR, changes=(*GENERATOR.changes, "loss.divergence=fisher")),
    "reflow": Run(
        "digits_vp",
        500,
        ("loss.pairing=stored", "loss.condition_dropout=0.0", "data.labels=True"),
        taught=False,
        paired=True,
        sampler="ddim",
    ),
}
ORDER = (*SOLVERS, *METHODS)
COMMAND = ("experiments.few_step.digits",)


def pairs(workdir: Path, out: Path) -> Path:
    """Return the file of the teacher's pairs of noise and sample, which are generated once."""
    job = drawing(load(workdir), "dpmpp_2m", PAIR_STEPS)
    coupled.claim(job, out)
    file = out / coupled.FILE
    return file if file.exists() else coupled.pairs(job, PAIRS, out)


def drawing(trained: Trained, sampler: str, steps: int) -> Job:
    """Return the job of unguided samples."""
    spec = {"sampler": sampler, "steps": steps, "guidance": 1.0, "batch_size": 250}
    return trained.job(seed=SEED, **spec)


def measured(real: Real, job: Job, samples: Generated) -> dict[str, Any]:
    """Return NFE, Frechet distance over floor, and agreement with its 95 % interval."""
    judged = Samples(samples.x, samples.label)
    distance, judgement = frechet(real, judged), classifier(real, judged)
    return {
        "passes": job.plan.passes,
        "ratio": round(distance["ratio"], 3),
        "agreement": round(judgement["agreement"], 3),
        "interval": [round(share, 3) for share in judgement["intervals"]["agreement"]],
    }


class Study:
    """The study in the folder `out`: its file, and the data that all samples are compared with."""

    def __init__(self, workdir: Path, runs: Path, out: Path):
        self.workdir, self.runs, self.out = workdir, runs, out
        self.teacher = load(workdir)
        form = self.teacher.experiment.form
        (runs / EVALUATION).mkdir(parents=True, exist_ok=True)
        self.real = reference(self.teacher.config, form, None, runs)
        self.about = {"num": NUM, "seed": SEED, "guidance": 1.0, "teacher": self.teacher.step}
        path = out / FILE
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.rows = stored["methods"] if stored.get("about") == self.about else {}

    def write(self) -> None:
        """Write the file of the study."""
        report = {"about": self.about, **provenance(), "methods": self.rows}
        write_text(self.out / FILE, json.dumps(report, indent=1) + "\n")

    def sampled(self, name: str, networks: Mapping[int, Trained], sampler: str) -> dict[str, Any]:
        """Return the measures of a method by steps, and store its first samples."""
        measures, shown = {}, {}
        for steps, trained in networks.items():
            job = drawing(trained, sampler, steps)
            if job.plan.passes != steps:
                raise ValueError(f"{name}: {steps} steps of {job} are not as many passes")
            samples = job.samples(NUM, self.runs / "samples" / job.key)
            measures[str(steps)] = measured(self.real, job, samples)
            shown[f"steps_{steps}"] = samples.x[:SHOWN]
            print(f"{name}, {steps} steps: {measures[str(steps)]}", flush=True)
        write_arrays(self.runs / "samples" / f"{name}.npz", shown)
        return measures

    def solver(self, name: str) -> None:
        """Measure a sampler of the teacher, unless the file has it."""
        if name not in self.rows:
            networks = dict.fromkeys(NFE, self.teacher)
            self.rows[name] = {"nfe": self.sampled(name, networks, SOLVERS[name])}
            self.write()

    def method(self, name: str, steps: int | None = None) -> None:
        """Train and measure a method, unless the file has it with these settings.

        steps: of training, in place of those of the method.
        """
        method = METHODS[name] if steps is None else replace(METHODS[name], steps=steps)
        settings = method.settings()
        row: dict[str, Any] = self.rows.get(name, {})
        if row.get("settings") == settings and "nfe" in row:
            return
        row = row if row.get("settings") == settings else {"settings": settings}
        began = time.process_time()
        try:
            runs = method.train(self.workdir, self.runs / name)
        finally:
            row["cpu_seconds"] = row.get("cpu_seconds", 0) + round(time.process_time() - began)
            self.rows[name] = row
            self.write()
        networks = {steps: load(run) for steps, run in runs.items()}
        row["nfe"] = self.sampled(name, networks, method.sampler)
        self.write()


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    if not (folder / FILE).exists():
        return {}
    rows = json.loads((folder / FILE).read_text())["methods"]
    lines, costs = [], []
    for name in (name for name in ORDER if "nfe" in rows.get(name, {})):
        at = {int(n): m for n, m in rows[name]["nfe"].items()}
        cell = lambda n, at=at: f"{at[n]['ratio']:.2f}, {at[n]['agreement']:.1%}" if n in at else ""
        lines.append([name, *map(cell, NFE)])
        if name not in SOLVERS:
            costs.append([name, str(rows[name]["cpu_seconds"])])
    return {
        "few-step-digits": table(["NFE", *map(str, NFE)], lines),
        "few-step-digits-cost": table(["method", "CPU seconds of training"], costs),
    }


def curves(folder: Path) -> np.ndarray:
    """Draw the Frechet distance over its floor against NFE."""
    rows = json.loads((folder / FILE).read_text())["methods"]
    series = {}
    for name in (name for name in ORDER if "nfe" in rows.get(name, {})):
        at = rows[name]["nfe"]
        ratios = [m["ratio"] for m in at.values()]
        series[name] = np.array([int(n) for n in at]), np.array(ratios)
    return plot.lines(series, x="network passes (NFE)", y="Frechet distance / floor", log="xy")


def picture(samples: Path, path: Path) -> None:
    """Draw the first samples of every method: a row per method, a column per number of steps."""
    names = [name for name in ORDER if (samples / f"{name}.npz").exists()]
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


def flags() -> argparse.ArgumentParser:
    """Return the parser of the study's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    parser.add_argument("--workdir", type=Path, required=True, help="the teacher, a run of digits")
    parser.add_argument("--runs", type=Path, default=Path("runs/few_digits"), help="of the methods")
    parser.add_argument("--out", type=Path, default=Path("experiments/few_step"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--steps", type=cli.positive, help="of training, for all methods")
    return parser


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    asked = flags().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study = Study(asked.workdir, asked.runs, asked.out)
    for place, name in enumerate(asked.methods, 1):
        print(f"[{place}/{len(asked.methods)}] {name}", flush=True)
        try:
            study.method(name, asked.steps)
        except Stopped as stopped:
            return interrupted(stopped, COMMAND[0])
    for name in SOLVERS:
        study.solver(name)
    plot.save(asked.out / "digits-curves.png", curves(asked.out))
    picture(asked.runs / "samples", asked.out / "digits-samples.png")
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
