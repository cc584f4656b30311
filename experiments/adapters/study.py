"""How low a rank teaches a network of digits the nine, and what does it forget?

    python -m experiments.adapters.study --runs=runs/adapters --out=experiments/adapters

A network is trained on the digits 0 to 8. Then adapters of ranks 1 to 16, and all weights for
comparison, are trained from it on all ten digits, half of them nines; with 10 % of nines; on nines
alone; or on five nines among samples of the first network (DreamBooth), where the row of the class
is trained alone as well (textual inversion). All are measured by the share of samples of the class
9 that a classifier of all digits takes for a nine, and by the Frechet distance of samples of the
other classes to the digits 0 to 8, over that of the first network with the same noise. The change
of the kernels by training all weights is also cut to its best approximation of each rank (Eckart
and Young). Writes adapters.json, of which what is there is neither trained nor sampled again, and
pictures. After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from diffjax import cli, plot
from diffjax.config import Stopped, override
from diffjax.config import load as load_config
from diffjax.data import digits
from diffjax.data.dreambooth import FILE as FILE_OF_PRIOR
from diffjax.data.kinds.drawing import grid
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.gaussian import frechet
from diffjax.evaluation.scores import classifier
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.io.trees import flat, joined, nested
from diffjax.nets.adapters import LoRA
from diffjax.runs.distilling import EVALUATION, reference
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.prior import prior
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import table

FILE, COMMAND = "adapters.json", ("experiments.adapters.study",)
NINE, OLD, SEED = 200, 720, 0
"""Samples of the class 9, and of the other nine classes in turn; their seed."""
BASE, RANKS = "0 to 8", (1, 2, 4, 8, 16)
WHERE = "Block|Attention|Embedding"
"""The kernels that are adapted."""


@dataclass(frozen=True)
class Run:
    """A training from the first network: changes of a config, and whether of all weights.

    images: the number of nines that are known, among samples of the first network (DreamBooth); 0
    for all nines among the other digits.
    """

    changes: tuple[str, ...] = ()
    whole: bool = False
    images: int = 0

    def train(self, begin: Path, run: Path) -> None:
        """Train from the network in `begin`, or resume, or do nothing where it is done."""
        changes = self.changes
        if self.images:
            places = own(begin.parent, self.images), drawn(begin)
            data = zip(("path", "prior"), places, strict=True)
            changes = (*changes, *(f"data.{name}={place}" for name, place in data))
        name = "digits_dreambooth" if self.images else "digits_lora"
        config = override(load_config(name), changes)
        if self.whole:
            del config["adapter"]
        if last_step(run) < config["train"]["steps"]:
            launch(config, run, resume_from=begin, command=COMMAND)


METHODS = {
    **{f"LoRA, rank {rank}": Run(changes=(f"adapter.rank={rank}",)) for rank in RANKS},
    "DoRA, rank 8": Run(changes=("adapter.name=dora",)),
    "LoRA, rank 8, 10 % nines": Run(changes=("data.only=()",)),
    "LoRA, rank 8, nines alone": Run(changes=("data.only=(9,)",)),
    "five nines, with a prior": Run(images=5),
    "five nines, without": Run(changes=("data.weight=0.0",), images=5),
    "five nines, with a prior, all weights": Run(
        changes=("optimizer.learning_rate=2e-3",), whole=True, images=5
    ),
    "five nines, the row of the class": Run(
        changes=("adapter=rows:where=label", "optimizer.learning_rate=0.1"), images=5
    ),
    "all weights": Run(changes=("optimizer.learning_rate=2e-3",), whole=True),
}
CUT = "all weights, cut to rank {}"
ORDER = (BASE, *METHODS, *(CUT.format(rank) for rank in RANKS))


def own(runs: Path, count: int) -> Path:
    """Return a folder with the pictures of `count` nines, which is written once."""
    folder = runs / f"nines_{count}"
    folder.mkdir(exist_ok=True)
    for k, x in enumerate(digits("train", only=(9,)).x[:count]):
        Image.fromarray(x[..., 0]).save(folder / f"{k}.png")
    return folder


def drawn(begin: Path) -> Path:
    """Return a prior of the first network, 180 samples of the digits 0 to 8, drawn once."""
    out = begin.parent / "prior"
    if not (out / FILE_OF_PRIOR).exists():
        job = load(begin).job(seed=1, label=list(range(9)), batch_size=180)
        prior(job, 180, out)
    return out


class Study:
    """The study in the folder `out`: its file, and the data that samples are compared with."""

    def __init__(self, runs: Path, out: Path, steps: int | None = None):
        self.runs, self.out, self.steps = runs, out, steps
        self.about = {"nine": NINE, "old": OLD, "seed": SEED, "steps": steps}
        path = out / FILE
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.rows = stored["methods"] if stored.get("about") == self.about else {}
        self.spectrum = stored.get("spectrum", {}) if self.rows else {}

    def write(self) -> None:
        """Write the file of the study."""
        report = {"about": self.about, **provenance(), "methods": self.rows}
        write_text(
            self.out / FILE, json.dumps(report | {"spectrum": self.spectrum}, indent=1) + "\n"
        )

    def shortened(self, changes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the changes of a config, with the asked number of steps."""
        if self.steps is None:
            return changes
        lengths = ("steps", "log_every", "checkpoint_every", "sample_every")
        return (*changes, *(f"train.{name}={self.steps}" for name in lengths))

    def base(self) -> Trained:
        """Return the first network, which is trained once."""
        run = self.runs / "base"
        changes = self.shortened((f"data.only={tuple(range(9))}",))
        config = override(load_config("digits_vp"), changes)
        if last_step(run) < config["train"]["steps"]:
            self.timed(BASE, lambda: launch(config, run, command=COMMAND))
        return load(run)

    def timed(self, name: str, train: Any) -> None:
        """Call a training, and add its CPU seconds to the row of the method."""
        row, began = self.rows.setdefault(name, {}), time.process_time()
        try:
            train()
        finally:
            row["cpu_seconds"] = row.get("cpu_seconds", 0) + round(time.process_time() - began)
            self.write()

    def real(self, trained: Trained, classes: tuple[int, ...]) -> Real:
        """Return the digits of these classes, all for none, to compare samples with."""
        folder = self.runs / f"real_{len(classes)}"
        (folder / EVALUATION).mkdir(parents=True, exist_ok=True)
        data = {**load_config("digits_vp")["data"], "only": classes}
        return reference({"data": data}, trained.experiment.form, None, folder)

    def measure(self, name: str, trained: Trained, extra: Mapping[str, Any]) -> None:
        """Sample a network and add its measures to the row of the method."""
        trained = trained.merged()  # one program samples all networks
        draw = lambda num, label: trained.sample(num, seed=SEED, label=label, batch_size=240)
        nine, old = draw(NINE, 9), draw(OLD, list(range(9)))
        every = self.real(trained, ())
        judged = [classifier(every, Samples(s.x, s.label))["agreement"] for s in (nine, old)]
        distance = frechet(self.real(trained, tuple(range(9))), Samples(old.x, old.label))
        self.rows[name] = self.rows.get(name, {}) | {
            "nine": round(judged[0], 4),
            "old": round(judged[1], 4),
            "frechet": round(distance["distance"], 5),
            "floor": round(distance["floor"], 5),
            **extra,
        }
        shown = {"nine": nine.x[:9], "old": old.x[:9]}
        write_arrays(self.runs / "samples" / f"{name}.npz", shown)
        print(f"{name}: {self.rows[name]}", flush=True)
        self.write()

    def method(self, name: str, base: Trained) -> None:
        """Train and measure a method, unless the file has it."""
        if "nine" in self.rows.get(name, {}):
            return
        method, run = METHODS[name], self.runs / name.replace(", ", "_").replace(" ", "_")
        method = replace(method, changes=self.shortened(method.changes))
        self.timed(name, lambda: method.train(self.runs / "base", run))
        trained = load(run)
        self.measure(name, trained, sizes(run))

    def cuts(self, base: Trained) -> None:
        """Measure the best approximation of each rank of the change by training all weights."""
        run = self.runs / "all_weights"
        if not run.exists() or all("nine" in self.rows.get(CUT.format(r), {}) for r in RANKS):
            return
        before, after = (
            flat(jax.device_get(t.denoise.params["network"])) for t in (base, load(run))
        )
        chosen = LoRA(WHERE, rank=1).chosen(nested(before))
        parts = {path: decomposed(after[path] - before[path]) for path in chosen}
        energy = sum((s**2).sum() for _, s, _ in parts.values())
        for rank in RANKS:
            kept = sum((s[:rank] ** 2).sum() for _, s, _ in parts.values())
            self.spectrum[str(rank)] = round(float(kept / energy), 4)
            near = {path: (u[:, :rank] * s[:rank]) @ v[:rank] for path, (u, s, v) in parts.items()}
            new = {
                path: a + near[path].reshape(a.shape) for path, a in before.items() if path in near
            }
            params = {**base.denoise.params, "network": joined(nested(before), nested(new))}
            denoise = base.experiment.denoiser(jax.tree.map(jnp.asarray, params))
            if "nine" in self.rows.get(CUT.format(rank), {}):
                continue
            self.measure(CUT.format(rank), replace(base, denoise=denoise), {})


def decomposed(change: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the singular value decomposition of a change of a kernel as a matrix (inputs, out)."""
    return np.linalg.svd(change.reshape(-1, change.shape[-1]), full_matrices=False)


def sizes(run: Path) -> dict[str, int]:
    """Return the number of trained parameters, and the bytes of the newest checkpoint of a run."""
    trained = load(run)
    frozen = trained.experiment.frozen
    own = trained.denoise.params["network"]
    counted = own["adapter"] if frozen else own
    folder = run / "checkpoints" / str(last_step(run)) / "state"
    return {
        "parameters": sum(a.size for a in jax.tree.leaves(counted)),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    if not (folder / FILE).exists():
        return {}
    report = json.loads((folder / FILE).read_text())
    rows = {name: row for name, row in report["methods"].items() if "nine" in row}
    first = rows[BASE]["frechet"]
    lines, cost = [], []
    for name in (name for name in ORDER if name in rows):
        row = rows[name]
        apart = f"{row['frechet'] / first:.2f}"
        lines.append([name, f"{row['nine']:.1%}", apart, f"{row['old']:.1%}"])
        if "bytes" in row:
            mega = f"{row['bytes'] / 1e6:.2f}"
            cost.append([name, f"{row['parameters']:,}", mega, str(row["cpu_seconds"])])
    heads = ["network", "nines", "Frechet distance of 0 to 8 over the first", "others"]
    costs = ["network", "trained parameters", "MB of a checkpoint", "CPU seconds"]
    kept = [[rank, f"{share:.1%}"] for rank, share in report["spectrum"].items()]
    made = {"adapters": table(heads, lines), "adapters-cost": table(costs, cost)}
    cut = table(["rank", "share of the squared change"], kept)
    return made | ({"adapters-spectrum": cut} if kept else {})


def picture(samples: Path, path: Path) -> None:
    """Draw nines of each network, and one sample of each of the other classes."""
    names = [name for name in ORDER if (samples / f"{name}.npz").exists()]
    figure = Figure((9, 0.55 * len(names) + 0.4), dpi=100, layout="constrained")
    panels = figure.subplots(len(names), 2, squeeze=False)
    for line, name in zip(panels, names, strict=True):
        stored = read_arrays(samples / f"{name}.npz")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for axes, part in zip(line, ("nine", "old"), strict=True):
            axes.set(xticks=[], yticks=[], frame_on=False)
            axes.imshow(grid(stored[part], columns=9), interpolation="nearest")
    for axes, title in zip(panels[0], ("class 9", "classes 0 to 8"), strict=True):
        axes.set_title(title, fontsize=9)
    figure.savefig(path)


def curves(folder: Path) -> np.ndarray:
    """Draw the share of nines against the rank, of adapters and of the change that was cut."""
    rows = json.loads((folder / FILE).read_text())["methods"]
    series = {}
    for title, name in {"trained at this rank": "LoRA, rank {}", "cut to this rank": CUT}.items():
        found = {r: rows[name.format(r)] for r in RANKS if "nine" in rows.get(name.format(r), {})}
        if found:
            shares = np.array([row["nine"] for row in found.values()])
            series[title] = np.array([*found]), shares
    return plot.lines(series, x="rank", y="share of nines", log="x")


def flags() -> argparse.ArgumentParser:
    """Return the parser of the study's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/adapters"), help="of the methods")
    parser.add_argument("--out", type=Path, default=Path("experiments/adapters"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--steps", type=cli.positive, help="of each training")
    return parser


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    asked = flags().parse_args()
    for folder in (asked.out, asked.runs / "samples"):
        folder.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study = Study(asked.runs, asked.out, asked.steps)
    try:
        base = study.base()
        if "nine" not in study.rows.get(BASE, {}):
            study.measure(BASE, base, sizes(asked.runs / "base"))
        for place, name in enumerate(asked.methods, 1):
            print(f"[{place}/{len(asked.methods)}] {name}", flush=True)
            study.method(name, base)
    except Stopped as stopped:
        return interrupted(stopped, COMMAND[0])
    study.cuts(base)
    plot.save(asked.out / "adapters.png", curves(asked.out))
    picture(asked.runs / "samples", asked.out / "samples.png")
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
