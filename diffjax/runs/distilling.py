"""Progressive distillation as a chain of runs, each of which halves the steps of its teacher."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import builder, plot
from diffjax.config import Config, ConfigError, override, parse
from diffjax.data.form import Form
from diffjax.devices.processes import first as is_first
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.files import reason, write_text
from diffjax.io.writing import writing
from diffjax.report import evaluated
from diffjax.runs.launch import launch
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import check_empty, last_step, provenance

FILE = "distill.json"
"""The settings of a chain and its results, in its folder."""
EVALUATION = "evaluation"
"""The folder of samples and features, as that of `evaluate` in a run."""
STUDENT, TEACHER = "distilled", "DDIM of the teacher"
SHARE = 4
"""By default, a run of the chain trains for this fraction of the steps of the first teacher."""


@dataclass(frozen=True)
class Chain:
    """A chain of runs in the folder `out` (arXiv:2202.00512, alg. 2).

    The run of n steps is trained so that one row of its sampler leads where two rows of its teacher
    lead, and is the teacher of the run of n / 2 steps. Each run begins with the weights of its
    teacher.

    teacher, path: the first teacher, and its place. times: the grid of its sampler, a time more
    than its steps. counts: the steps of the runs, in order. guidance: the weight of classifier-free
    guidance of the first teacher, which the runs then have without guidance. train_steps: the
    length of each run. changes: new values of fields in the config of each run, `a.b=value`.
    """

    teacher: Trained
    path: Path
    out: Path
    times: tuple[float, ...]
    counts: tuple[int, ...]
    guidance: float
    train_steps: int
    changes: tuple[str, ...] = ()

    def workdir(self, steps: int) -> Path:
        """Return the folder of the run of this number of steps."""
        return self.out / f"steps_{steps}"

    def taught_by(self, steps: int) -> Path:
        """Return the path of the teacher of the run of this number of steps."""
        return self.path if steps == self.counts[0] else self.workdir(2 * steps)

    def config(self, steps: int) -> dict[str, Any]:
        """Return the config of a run: that of the first teacher, with another loss and sampler."""
        config = builder.completed(self.teacher.config)
        guidance = self.guidance if steps == self.counts[0] else 1.0
        unit = config["train"]["batch_size"] if config["optimizer"].get("in_images") else 1
        falls = {"name": "linear", "length": self.train_steps * unit, "final": 0.0}
        loss = {
            "name": "flow_map_distillation",
            "teacher": str(self.taught_by(steps)),
            "rule": {"name": "progressive"},
            "pair": {"name": "rows", "steps": steps, "times": self.times},
            "velocity": {"name": "teacher", "guidance": guidance},
            "weight": {"name": "truncated_snr", "floor": 1.0},
            "diagonal": 0.0,
            "condition_dropout": config["loss"].get("condition_dropout", 0.0),
            "weights": config["loss"].get("weights", ()),
        }
        config |= {
            "loss": loss,
            "optimizer": config["optimizer"] | {"schedule": falls, "warmup": 0},
            "sampling": sampling(self.times, steps),
            "train": config["train"] | {"steps": self.train_steps},
        }
        return override(config, self.changes)

    def check(self) -> None:
        """Raise ConfigError for runs that cannot work, before anything is compiled or written."""
        first = sampled(self.teacher, sampling(self.times, 2 * self.counts[0], self.guidance))
        if line := builder.off_grid(first.experiment):
            raise ConfigError(f"--from={2 * self.counts[0]}: {line}")
        builder.experiment(self.config(self.counts[0]), load=lambda *_: self.teacher)

    def settings(self) -> dict[str, Any]:
        """Return the settings that all commands with this folder share, as JSON data."""
        names = {"times": "--from, --grid", "counts": "--to", "guidance": "--guidance"}
        names |= {"train_steps": "--train-steps", "changes": "--config"}
        shared = {flag: getattr(self, name) for name, flag in names.items()}
        return json.loads(json.dumps({"--workdir": str(self.path.resolve())} | shared))

    def claim(self) -> None:
        """Write the settings to the folder.

        Raises ConfigError where the folder holds other files, or a chain with other settings.
        """
        file, here = self.out / FILE, self.settings()
        if not file.exists():
            check_empty(self.out)
        there = stored(file).get("settings", {})
        if other := [flag for flag in here if there and there.get(flag) != here[flag]]:
            raise ConfigError(
                f"--out={self.out}: holds a chain with another {other[0]}; use another folder, or "
                f"the flags of that chain"
            )
        with writing(f"--out={self.out}"):
            (self.out / EVALUATION).mkdir(parents=True, exist_ok=True)
            if not there and is_first():
                write_text(file, json.dumps({"settings": here}, indent=2) + "\n")

    def train(self, command: Sequence[str]) -> None:
        """Train the runs in turn, each from its newest checkpoint, and those finished not at all.

        Raises Stopped after a signal, once everything is saved, and the errors of `launch`.
        """
        for place, steps in enumerate(self.counts, 1):
            config, workdir = self.config(steps), self.workdir(steps)
            what = f"run {place} of {len(self.counts)}, {2 * steps} to {steps} steps: {workdir}"
            if last_step(workdir) >= config["train"]["steps"]:
                print(f"{what}: is trained already", flush=True)
                continue
            print(what, flush=True)
            teacher = self.taught_by(steps)
            launch(config, workdir, resume_from=teacher, command=command)

    def results(self, real: Real, num: int, batch_size: int) -> list[dict[str, Any]]:
        """Return the Frechet distance of each run, and of DDIM of the first teacher.

        DDIM takes the same times as the runs. Samples are stored, so that an interrupted command
        resumes.
        """
        rows = []
        for steps in (2 * self.counts[0], *self.counts):
            of_teacher = sampling(self.times, steps, self.guidance)
            networks = {TEACHER: (sampled(self.teacher, of_teacher), self.out)}
            if steps in self.counts:
                networks[STUDENT] = load(self.workdir(steps)), self.workdir(steps)
            for name, (trained, folder) in networks.items():
                job = trained.job(batch_size=batch_size, latents=True)
                print(f"{name}, {steps} steps: {job}", flush=True)
                drawn = job.samples(num, folder / EVALUATION / job.key)
                distance = builder.refuse("--num")(frechet)(real, Samples(drawn.x, drawn.label))
                rows.append({"run": name, "protocol": job.protocol(drawn), "frechet": distance})
        return rows

    def report(self, results: list[dict[str, Any]]) -> str:
        """Write distill.json, distill.md and distill.png to the folder, and return the table."""
        table = tabled(results)
        report = {"settings": self.settings(), "results": results} | provenance()
        with writing(f"--out={self.out}"):
            write_text(self.out / FILE, json.dumps(report, indent=2) + "\n")
            write_text((self.out / FILE).with_suffix(".md"), f"{table}\n")
            plot.save((self.out / FILE).with_suffix(".png"), picture(results))
        return table


def chain(
    path: Path,
    out: Path,
    first: int,
    last: int,
    *,
    train_steps: int | None = None,
    guidance: float = 1.0,
    grid: str | None = None,
    changes: Sequence[str] = (),
) -> Chain:
    """Prepare a chain from the network in `path`, a run, an export or a published checkpoint.

    first: the steps of the teacher. last: those of the last run, `first` halved several times.
    train_steps: by default a quarter of the teacher's. grid: the grid of the teacher's times, by
    default that of its config. Raises ConfigError for settings that cannot work.
    """
    counts = halvings(first, last)
    teacher = load(path)
    spec = parse(grid) if grid else teacher.config["sampling"].get("grid", {"name": "uniform"})
    place = f"--grid={grid}" if grid else "config.sampling.grid"
    times = builder.refuse(place)(builder.construct_grid(spec, place))(teacher.sde, first)
    if train_steps is None:
        if "steps" not in teacher.config["train"]:
            raise ConfigError(f"--train-steps: needed, for {path} does not state its own steps")
        settings = builder.completed(teacher.config)["train"]
        stride = settings["steps_per_dispatch"]
        train_steps = int(stride * math.ceil(settings["steps"] / SHARE / stride))
    if teacher.experiment.loss.guides and guidance != 1:
        raise ConfigError(
            f"--guidance={guidance:g}: the teacher receives its guidance weight, and so will the "
            f"runs, for all weights; allowed: 1"
        )
    prepared = Chain(
        teacher=teacher,
        path=path,
        out=out,
        times=tuple(np.asarray(times, np.float64).tolist()),
        counts=counts,
        guidance=guidance,
        train_steps=train_steps,
        changes=tuple(changes),
    )
    steps = prepared.config(counts[0])["train"]["steps"]  # which a change may have set
    prepared = replace(prepared, train_steps=steps)
    prepared.check()
    return prepared


def halvings(first: int, last: int) -> tuple[int, ...]:
    """Return first / 2, first / 4, ..., last; raise ConfigError where these are no integers.

    >>> halvings(32, 4)
    (16, 8, 4)
    """
    ratio = first // last
    if first != last * ratio or ratio < 2 or ratio & (ratio - 1):
        raise ConfigError(
            f"--from={first}, --to={last}: each run halves the steps; needs from = 2^k to with "
            f"k >= 1, such as --from=32 --to=1"
        )
    return tuple(first // 2**k for k in range(1, ratio.bit_length()))


def sampling(times: Sequence[float], steps: int, guidance: float = 1.0) -> dict[str, Any]:
    """Return config.sampling of DDIM on every k-th of the times, in this number of steps."""
    grid = {"name": "nested", "times": tuple(times)}
    return {"sampler": {"name": "ddim"}, "grid": grid, "steps": steps, "guidance": guidance}


def sampled(trained: Trained, section: Config) -> Trained:
    """Return the network with this section as its config.sampling."""
    config = {**trained.config, "sampling": dict(section)}
    return replace(trained, experiment=builder.experiment(config, trained.experiment.form))


def reference(config: Config, form: Form, features: str | None, out: Path) -> Real:
    """Return the data of a config to compare samples with; features are stored in the folder `out`.

    Raises ConfigError for data that cannot be opened, and for an unknown extractor.
    """
    source, reading = builder.construct_data(config["data"], "config.data")
    extractor = builder.construct_features(features or form.items.features, "--features")
    return builder.refuse("config.data")(Real)(source, reading, 50_000, out / EVALUATION, extractor)


def tabled(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table in Markdown: NFE and Frechet distance over floor by number of steps."""
    lines: dict[int, dict[str, Any]] = {}
    for row in results:
        cells = row["protocol"]["passes"], row["frechet"]["ratio"]
        lines.setdefault(row["protocol"]["steps"], {})[row["run"]] = cells
    heads = ["steps", "NFE", "distilled", "NFE", "DDIM of the teacher"]
    of = lambda cells, name: cells.get(name, (None, None))
    text = evaluated.aligned(
        heads, [[n, *of(c, STUDENT), *of(c, TEACHER)] for n, c in lines.items()]
    )
    floor = results[0]["frechet"]["floor"]
    return f"Frechet distance, in multiples of its floor {floor:.4g}:\n\n{text}"


def picture(results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Draw the ratios of the Frechet distances to the floor over the NFE, (H, W, 3)."""
    curves = {}
    for name in dict.fromkeys(row["run"] for row in results):
        of = [row for row in results if row["run"] == name]
        passes, ratio = (
            [row[k][v] for row in of] for k, v in (("protocol", "passes"), ("frechet", "ratio"))
        )
        curves[name] = np.array(passes, float), np.array(ratio)
    return plot.lines(curves, x="network passes (NFE)", y="Frechet distance / floor", log="xy")


def stored(file: Path) -> dict[str, Any]:
    """Read the file of a chain, {} without one; raise ConfigError for other contents."""
    try:
        read = json.loads(file.read_text()) if file.exists() else {}
        if not isinstance(read, dict):
            raise ValueError("no object with fields")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({reason(error)})") from error
    return read
