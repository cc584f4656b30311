"""What does noise on the smaller image do to the errors of a cascade, and what does a cascade cost?

    python -m experiments.cascades.study --data=digits --runs=runs/cascades
    python -m experiments.cascades.study --data=cifar --runs=runs/cascades --num=96 --steps=15

Trains the stages (digits from 4 to 8 pixels; CIFAR-10 from 8 to 16 to 32), or resumes. The last
stage then enlarges held-out images made smaller, which are an exact base, at several noise levels
tau: once as they are, and once brighter, with the same noise. The shift of the mean colour over
that of the base is compared with the shift that a Gaussian with the covariance of the data within
classes has (G1). For digits, the whole chain is compared with one network that was trained and
sampled for at least as much CPU time. Writes DATA.json and pictures. What is there is neither
trained nor measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, plot
from diffjax.config import Stopped, override
from diffjax.config import load as load_config
from diffjax.data.enlarged import smaller
from diffjax.data.kinds.drawing import grid
from diffjax.evaluation import Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.evaluation.scores import classifier
from diffjax.files import write_text
from diffjax.generation import Generated
from diffjax.runs.cascade import Cascade
from diffjax.runs.distilling import EVALUATION, reference
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import table

COMMAND = ("experiments.cascades.study",)
SHIFT, SEED, SAMPLES = 0.2, 0, 1000
"""Brightness added to the base, of the range [-1, 1]; the seed; samples of a whole chain."""


@dataclass(frozen=True)
class Chain:
    """Configs of the stages and of a single network, changes of the last, and noise levels."""

    stages: tuple[str, ...]
    single: str
    changes: tuple[str, ...]
    levels: tuple[float, ...]


CHAINS = {
    "digits": Chain(
        stages=("digits_base", "digits_enlarged"),
        single="digits_vp",
        changes=("train.steps=750",),
        levels=(0.0, 0.1, 0.3, 0.6, 0.9, 1.0),
    ),
    "cifar": Chain(
        stages=("cifar_base", "cifar_middle", "cifar_enlarged"),
        single="",
        changes=(),
        levels=(0.0, 0.1, 0.3, 0.5),
    ),
}


class Study:
    """The study of one chain: its file, its runs and its measures."""

    def __init__(self, name: str, runs: Path, out: Path, num: int, steps: int, short: int | None):
        self.name, self.chain, self.runs, self.out = name, CHAINS[name], runs, out
        self.num, self.steps, self.short = num, steps, short
        self.about = {"num": num, "steps": steps, "shift": SHIFT, "seed": SEED, "short": short}
        path = out / f"{name}.json"
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.rows = stored["rows"] if stored.get("about") == self.about else {}

    def once(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return a row of the file, which is measured and written where it is missing."""
        if key not in self.rows:
            self.rows[key] = measure()
            report = {"about": self.about, **provenance(), "rows": self.rows}
            write_text(self.out / f"{self.name}.json", json.dumps(report, indent=1) + "\n")
            print(f"{key}: {self.rows[key]}", flush=True)
        return self.rows[key]

    def trained(self, name: str, changes: Sequence[str] = ()) -> Trained:
        """Return a network, which is trained where it is not."""
        run = self.runs / name
        short = [f"train.{k}={self.short}" for k in LENGTHS] if self.short else []
        config = override(load_config(name), [*changes, *short])
        if last_step(run) < config["train"]["steps"]:
            began = time.process_time()
            launch(config, run, command=COMMAND)
            self.once(f"{name}: CPU seconds", lambda: round(time.process_time() - began))
        return load(run)

    def measure(self) -> None:
        """Train all stages and measure the last one, and for digits the chain."""
        stages = [self.trained(name) for name in self.chain.stages]
        last = stages[-1]
        small, whole, labels = held_out(last, self.num)
        for tau in self.chain.levels:
            self.once(f"tau {tau:g}", lambda tau=tau: self.level(last, tau, small, labels))
        chain = Cascade(tuple(stages))
        if not self.chain.single:
            self.pictures(chain, last, small, whole, labels)
            return
        single = self.trained(self.chain.single, self.chain.changes)
        real = self.real(single)
        for name, run in {"one network": Cascade((single,)), "base": Cascade((stages[0],))}.items():
            compared = real if name == "one network" else self.real(stages[0])
            self.once(name, lambda run=run, of=compared: self.quality(run, of))
        for tau in self.chain.levels:
            job = lambda tau=tau: self.quality(chain, real, tau)
            self.once(f"chain, tau {tau:g}", job)
        self.pictures(chain, last, small, whole, labels)

    def real(self, trained: Trained) -> Any:
        folder = self.runs / f"real_{trained.experiment.shape[0]}"
        (folder / EVALUATION).mkdir(parents=True, exist_ok=True)
        data = {**trained.config["data"], "enlarged": None}
        return reference({"data": data}, trained.experiment.form, None, folder)

    def level(self, last: Trained, tau: float, small: Any, labels: Any) -> dict[str, Any]:
        """Return the measures of the last stage at a noise level, from an exact base."""
        plain, brighter = (self.enlarged(last, tau, small + s, labels) for s in (0.0, SHIFT))
        e, one = last.experiment, last.experiment.reading.enlarged
        assert one
        again = smaller(plain, e.form, one.factor, one.kernel)
        colour = (plain.mean((1, 2)) - small.mean((1, 2))) * 127.5
        gain = (brighter.mean((1, 2)) - plain.mean((1, 2))) / SHIFT
        return {
            "gain": round(float(gain.mean()), 4),
            "gain_error": round(float(gain.mean(1).std() / len(gain) ** 0.5), 4),
            "gaussian": round(gaussian_gain(last, tau), 4),
            "off": round(float(np.sqrt(((again - small) ** 2).mean()) * 127.5), 3),
            "colour": [round(float(c), 3) for c in colour.mean(0)],
            "colour_rms": round(float(np.sqrt((colour**2).mean())), 3),
        }

    def enlarged(self, last: Trained, tau: float, small: Any, labels: Any) -> np.ndarray:
        """Return samples of the last stage in [-1, 1], unrounded, from an exact base."""
        job = last.job(
            low=small.astype(np.float32), tau=tau, label=labels, seed=SEED, steps=self.steps
        )
        x = job.samples(len(small)).x
        return x.astype(np.float64) / 127.5 - 1

    def quality(self, run: Cascade, real: Any, tau: float | None = None) -> dict[str, float]:
        """Return the Frechet distance over its floor, and the share of samples in their class."""
        began = time.process_time()
        later = [{"steps": self.steps}] * (len(run.stages) - 1)
        num = 64 if self.short else SAMPLES
        made = run.sample(num, seed=SEED, steps=self.steps, tau=tau, stages=later)
        cpu = time.process_time() - began
        samples = Samples(made.x, made.label)
        distance = frechet(real, samples)
        return {
            "ratio": round(distance["ratio"], 3),
            "agreement": round(classifier(real, samples)["agreement"], 4),
            "passes": round(float(made.passes.mean())),
            "cpu_seconds": round(cpu, 1),
        }

    def pictures(self, chain: Cascade, last: Trained, small: Any, whole: Any, labels: Any) -> None:
        """Draw the stages of a chain, and held-out images that the last stage enlarges."""
        made: list[Generated] = []
        later = [{"steps": self.steps}] * (len(chain.stages) - 1)
        job = chain.job(seed=SEED, steps=self.steps, stages=later)
        job.samples(20, finished=lambda _, samples: made.append(samples))
        side = made[-1].x.shape[1]
        rows = [blocks(one.x, side) for one in made]
        plot.save(self.out / f"{self.name}-chain.png", np.concatenate([tiles(r) for r in rows]))
        rows = [blocks(levels(small[:20]), side), levels(whole[:20])]
        for tau in self.chain.levels[:: max(1, len(self.chain.levels) // 3)]:
            rows.append(levels(self.enlarged(last, tau, small[:20], labels[:20])))
        picture = np.concatenate([tiles(row) for row in rows])
        plot.save(self.out / f"{self.name}-enlarged.png", picture)


LENGTHS = ("steps", "log_every", "checkpoint_every", "sample_every")


def held_out(last: Trained, num: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return held-out images made smaller and whole, both in [-1, 1], and their labels."""
    e = last.experiment
    one, source = e.reading.enlarged, e.unseen
    assert one
    items = source[np.linspace(0, len(source) - 1, num).astype(int)]
    whole = np.asarray(e.form.items.normalise(items["x"]), np.float64)
    small = smaller(whole, e.form, one.factor, one.kernel)
    return small, whole, items["label"].tolist()


def gaussian_gain(last: Trained, tau: float) -> float:
    """Return the shift of the mean of x for one of z, where both are Gaussian within classes.

    Cov(x, z) alpha^2 (alpha^2 Cov(z) + tau^2 I)^-1 1, in the mean over the values of x.
    """
    e = last.experiment
    one, source = e.reading.enlarged, e.source("train")
    assert one
    items = source[np.arange(min(len(source), 5000))]
    x = np.asarray(e.form.items.normalise(items["x"]), np.float64)
    z = smaller(x, e.form, one.factor, one.kernel)
    x, z = x.reshape(len(x), -1), z.reshape(len(z), -1)
    for kind in np.unique(items["label"]):
        of = items["label"] == kind
        x[of], z[of] = x[of] - x[of].mean(0), z[of] - z[of].mean(0)
    keep = 1 - tau**2
    both = keep * np.cov(z.T) + (tau**2 + 1e-9) * np.eye(z.shape[1])
    answer = keep * np.linalg.solve(both, np.ones(z.shape[1]))
    return float((x.T @ (z @ answer) / len(x)).mean())


def levels(x: np.ndarray) -> np.ndarray:
    """Return images in [-1, 1] as grey levels."""
    return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


def blocks(x: np.ndarray, side: int) -> np.ndarray:
    """Return images (N, h, w, C) with each pixel repeated up to this side."""
    return x.repeat(side // x.shape[1], 1).repeat(side // x.shape[1], 2)


def tiles(x: np.ndarray) -> np.ndarray:
    """Return images side by side, enlarged to at least 48 pixels."""
    x = x.repeat(max(1, 48 // x.shape[1]), 1).repeat(max(1, 48 // x.shape[2]), 2)
    return grid(x, columns=len(x))


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    made = {}
    for name in CHAINS:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        rows = json.loads(path.read_text())["rows"]
        lines = [
            [
                key.removeprefix("tau "),
                f"{row['gain']:.3f} ± {row['gain_error']:.3f}",
                f"{row['gaussian']:.3f}",
                f"{row['off']:.2f}",
                ", ".join(f"{c:+.2f}" for c in row["colour"]),
                f"{row['colour_rms']:.2f}",
            ]
            for key, row in rows.items()
            if key.startswith("tau ")
        ]
        heads = ["tau", "shift of the output over that of the base", "of a Gaussian"]
        heads += ["distance of the smaller output", "mean colour, off by", "of one image, RMS"]
        made[f"cascades-{name}"] = table(heads, lines)
        whole = [
            [
                k,
                f"{r['ratio']:.2f}",
                f"{r['agreement']:.1%}",
                str(r["passes"]),
                str(r["cpu_seconds"]),
            ]
            for k, r in rows.items()
            if isinstance(r, dict) and "ratio" in r
        ]
        heads = ["samples of", "Frechet distance over floor", "in their class", "passes"]
        if whole:
            made[f"cascades-{name}-chain"] = table([*heads, "CPU seconds"], whole)
    return made


def flags() -> argparse.ArgumentParser:
    """Return the parser of the study's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/cascades"), help="of all stages")
    parser.add_argument("--out", type=Path, default=Path("experiments/cascades"))
    parser.add_argument("--data", choices=CHAINS, default="digits")
    parser.add_argument("--num", type=cli.positive, default=297, help="held-out images")
    parser.add_argument("--steps", type=cli.positive, default=30, help="of the sampler, per stage")
    parser.add_argument("--short", type=cli.positive, help="steps of each training")
    return parser


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    asked = flags().parse_args()
    for folder in (asked.out, asked.runs):
        folder.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study = Study(asked.data, asked.runs, asked.out, asked.num, asked.steps, asked.short)
    try:
        study.measure()
    except Stopped as stopped:
        return interrupted(stopped, COMMAND[0])
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
