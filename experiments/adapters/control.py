"""Do digits obey a ControlNet on their edges, or on the thickness of their strokes, and how soon?

    python -m experiments.adapters.control --runs=runs/control --out=experiments/adapters

A network of digits (`digits_vp`) knows classes alone. Beside it one ControlNet is trained on the
edges of each digit and one on the thickness of its strokes (`digits_control`). Samples get the
label and the map of held-out digits in turn. The edges of a sample are correlated with those asked
for, pixel by pixel; thickness is correlated over the samples. Every checkpoint is measured, and the
last one also with other scales, in a part of the rows, and both controls at once. Writes
control.json and pictures. After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffjax import cli, plot
from diffjax.config import Stopped, override
from diffjax.config import load as load_config
from diffjax.data.kinds.drawing import grid
from diffjax.data.maps import edges, thickness
from diffjax.evaluation import Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.evaluation.scores import classifier
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.runs.distilling import EVALUATION, reference
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.trained import Trained, load
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import table

FILE, COMMAND = "control.json", ("experiments.adapters.control",)
SEED, BASE = 0, "base"
KINDS: dict[str, Callable[..., Any]] = {"edges": edges, "thickness": thickness}
EVERY = 50
"""Steps between two checkpoints that are measured."""
USES = {
    "edges": {"edges": (1.0,)},
    "edges, scale 0.5": {"edges": (0.5,)},
    "edges, scale 2": {"edges": (2.0,)},
    "edges, first half of the rows": {"edges": (1.0, 0.0, 0.5)},
    "edges, second half of the rows": {"edges": (1.0, 0.5, 1.0)},
    "thickness": {"thickness": (1.0,)},
    "thickness, scale 2": {"thickness": (2.0,)},
    "both": {"edges": (1.0,), "thickness": (1.0,)},
}


def floats(x: np.ndarray) -> np.ndarray:
    """Return stored images as a network sees them, in [-1, 1]."""
    return np.asarray(x, np.float32) / 127.5 - 1


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean over rows (N, k) of the correlation of two rows, 0 for a constant row.

    >>> correlation(np.array([[1.0, 2.0], [1.0, 1.0]]), np.array([[0.0, 5.0], [1.0, 2.0]]))
    0.5
    """
    a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
    size = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return float(((a * b).sum(-1) / np.where(size > 0, size, np.inf)).mean())


class Study:
    """The study in the folder `out`: its file, its runs, and the conditions that are asked for."""

    def __init__(self, runs: Path, out: Path, steps: int | None, num: int):
        self.runs, self.out, self.steps, self.num = runs, out, steps, num
        self.about = {"num": num, "seed": SEED, "steps": steps}
        path = out / FILE
        stored = json.loads(path.read_text()) if path.exists() else {}
        same = stored.get("about") == self.about
        self.rows = stored["networks"] if same else {}
        self.curves = stored["curves"] if same else {}
        self.costs = stored["costs"] if same else {}

    def write(self) -> None:
        """Write the file of the study."""
        report = {"about": self.about, **provenance(), "networks": self.rows}
        report |= {"curves": self.curves, "costs": self.costs}
        write_text(self.out / FILE, json.dumps(report, indent=1) + "\n")

    def train(self, name: str) -> Path:
        """Train the base, or a control beside it, unless it is done; return its folder."""
        run, changes, begin = self.runs / name, (), None
        config = load_config("digits_vp")
        if name != BASE:
            changes = (f"data.maps=('{name}',)", f"adapter.condition={name}")
            changes += (f"train.checkpoint_every={EVERY}", "train.keep=100")
            config, begin = load_config("digits_control"), self.runs / BASE
        if self.steps is not None:
            lengths = ("steps", "log_every", "checkpoint_every", "sample_every")
            changes += tuple(f"train.{part}={self.steps}" for part in lengths)
        config = override(config, changes)
        if last_step(run) < config["train"]["steps"]:
            began = time.process_time()
            try:
                launch(config, run, resume_from=begin, command=COMMAND)
            finally:
                row = self.costs.setdefault(name, {})
                seconds = round(time.process_time() - began)
                row["cpu_seconds"] = row.get("cpu_seconds", 0) + seconds
                self.write()
        return run

    def asked(self) -> dict[str, np.ndarray]:
        """Return the held-out digits whose labels and maps are asked for, in turn."""
        source = load(self.runs / BASE).experiment.source("test")
        return source[np.arange(self.num) % len(source)]

    def sampled(self, trained: Trained) -> np.ndarray:
        """Return samples (N, H, W, 1) with the labels and the maps of the held-out digits."""
        asked, form = self.asked(), trained.experiment.form
        x = floats(asked["x"])
        cond = {name: make(x) for name, make in KINDS.items() if name in form.names}
        label = asked["label"].tolist()
        return trained.sample(self.num, seed=SEED, label=label, cond=cond, batch_size=self.num).x

    def measures(self, x: np.ndarray) -> dict[str, float]:
        """Return how far samples obey the maps asked for, their class, and their distance."""
        asked = self.asked()
        flat = lambda make, images: make(floats(images)).reshape(len(images), -1)
        wide = [4 * flat(thickness, images)[:, 0] for images in (x, asked["x"])]
        base = load(self.runs / BASE)
        folder = self.runs / "real"
        (folder / EVALUATION).mkdir(parents=True, exist_ok=True)
        real = reference({"data": base.config["data"]}, base.experiment.form, None, folder)
        samples = Samples(x, asked["label"])
        found = frechet(real, samples)
        return {
            "edges": round(correlation(flat(edges, x), flat(edges, asked["x"])), 4),
            "thickness": round(float(np.corrcoef(*wide)[0, 1]), 4),
            "pixels": round(float(np.abs(wide[0] - wide[1]).mean()), 4),
            "class": round(classifier(real, samples)["agreement"], 4),
            "frechet": round(found["distance"] / found["floor"], 3),
        }

    def measure(self, name: str, trained: Trained) -> None:
        """Sample a network and add its measures, unless the file has them."""
        if name in self.rows:
            return
        x = self.sampled(trained)
        write_arrays(self.runs / "samples" / f"{name}.npz", {"x": x[:20]})
        self.rows[name] = self.measures(x)
        print(f"{name}: {self.rows[name]}", flush=True)
        self.write()

    def curve(self, name: str) -> None:
        """Measure every checkpoint of the training of a control."""
        trained = load(self.runs / name)
        experiment, found = trained.experiment, self.curves.setdefault(name, {})
        abstract = jax.eval_shape(experiment.initialise)
        held = {"frozen": frozen_of(trained)}
        checkpoints = Checkpoints(self.runs / name / "checkpoints", write=False)
        for step in checkpoints.steps():
            if str(step) in found:
                continue
            moving = checkpoints.restore(abstract.moving, at=step)
            assert moving is not None
            state = moving.holding(held)
            params = jax.tree.map(jnp.asarray, state.weights(next(iter(state.ema))))
            here = replace(trained, denoise=experiment.denoiser(params))
            found[str(step)] = self.measures(self.sampled(here))
            print(f"{name}, step {step}: {found[str(step)]}", flush=True)
            self.write()


def frozen_of(trained: Trained) -> Any:
    """Return the parameters of the base among those of a network with a control."""
    own = {k: v for k, v in trained.denoise.params["network"].items() if k != "adapter"}
    return {**trained.denoise.params, "network": own}


def sizes(run: Path) -> dict[str, int]:
    """Return the number of trained parameters, and the bytes of the newest checkpoint of a run."""
    own = load(run).denoise.params["network"]
    folder = run / "checkpoints" / str(last_step(run)) / "state"
    return {
        "parameters": sum(a.size for a in jax.tree.leaves(own.get("adapter", own))),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    if not (folder / FILE).exists():
        return {}
    report = json.loads((folder / FILE).read_text())
    heads = ["network", "edges", "thickness", "error of thickness in pixels", "class", "Frechet"]
    row = lambda name, r: [
        name,
        f"{r['edges']:.3f}",
        f"{r['thickness']:.3f}",
        f"{r['pixels']:.3f}",
        f"{r['class']:.1%}",
        f"{r['frechet']:.2f}",
    ]
    rows, curves, costs = report["networks"], report["curves"], report["costs"]
    lines = [row(name, rows[name]) for name in (BASE, *USES) if name in rows]
    made = {"control": table(heads, lines)}
    steps = sorted({int(step) for curve in curves.values() for step in curve})
    value = lambda kind, step: curves.get(kind, {}).get(str(step), {}).get(kind)
    shown = lambda v: "" if v is None else f"{v:.3f}"
    lines = [[str(step), *(shown(value(kind, step)) for kind in KINDS)] for step in steps]
    made["control-curve"] = table(["step", "correlation of edges", "of thickness"], lines)
    lines = [
        [name, f"{c['parameters']:,}", f"{c['bytes'] / 1e6:.2f}", str(c["cpu_seconds"])]
        for name, c in costs.items()
        if "bytes" in c
    ]
    costs_heads = ["network", "trained parameters", "MB of a checkpoint", "CPU seconds"]
    return made | {"control-cost": table(costs_heads, lines)}


def picture(study: Study, path: Path) -> None:
    """Draw held-out digits, their edges, and the samples of each network."""
    real = study.asked()["x"][:20]
    stored = {f.stem: read_arrays(f)["x"] for f in (study.runs / "samples").glob("*.npz")}
    shown = {"held-out digits": real, "their edges": np.uint8(255 * edges(floats(real)))}
    shown |= {name: stored[name] for name in (BASE, *USES) if name in stored}
    figure = Figure((9, 0.55 * len(shown) + 0.2), dpi=100, layout="constrained")
    for axes, (name, x) in zip(figure.subplots(len(shown), 1), shown.items(), strict=True):
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.imshow(grid(x, columns=20), interpolation="nearest")
    figure.savefig(path)


def curves(folder: Path) -> np.ndarray:
    """Draw the correlations against the steps of training."""
    found = json.loads((folder / FILE).read_text())
    series = {}
    for kind, curve in found["curves"].items():
        steps = sorted(map(int, curve))
        values = np.array([curve[str(step)][kind] for step in steps])
        series[kind] = np.array(steps), values
    return plot.lines(series, x="step", y="correlation with the map asked for")


def flags() -> argparse.ArgumentParser:
    """Return the parser of the study's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/control"), help="of the networks")
    parser.add_argument("--out", type=Path, default=Path("experiments/adapters"))
    parser.add_argument("--uses", nargs="+", choices=USES, default=[*USES])
    parser.add_argument("--steps", type=cli.positive, help="of each training")
    parser.add_argument("--num", type=cli.positive, default=297, help="samples of each network")
    return parser


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    asked = flags().parse_args()
    for folder in (asked.out, asked.runs / "samples"):
        folder.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study = Study(asked.runs, asked.out, asked.steps, asked.num)
    try:
        for name in (BASE, *KINDS):
            run = study.train(name)
            study.costs.setdefault(name, {}).update(sizes(run))
        base = study.runs / BASE
        study.measure(BASE, load(base))
        for name in asked.uses:
            chosen = {study.runs / kind: strength for kind, strength in USES[name].items()}
            study.measure(name, load(base, adapters=chosen))
        for name in KINDS:
            study.curve(name)
    except Stopped as stopped:
        return interrupted(stopped, COMMAND[0])
    plot.save(asked.out / "control_curve.png", curves(asked.out))
    picture(study, asked.out / "control.png")
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
