"""How good are images from pixels and from latents, by the time of training?

    TFDS_DATA_DIR=... python -m experiments.latent.study --runs=runs/latent --out=experiments/latent
    python -m experiments.latent.study --data emoji --parts vae pixels latents

An autoencoder is trained, of factor 2 for CIFAR-10 and of factor 4 for emoji. Two branches follow
with its encoder fixed, with and without a discriminator, and one with equivariance. One DiT, with
as many tokens of the same width, trains on pixels, on latents, and on the equivariant latents. Its
samples are compared with training images by Frechet distances in pixels and in the features of the
small classifier, with their floors, at several steps. Reconstructions have the distance that
latents cannot go below. Writes latent.json, of which what is there is neither trained nor measured
again, and pictures. After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import builder, cli, plot
from diffjax.codecs import Codec, Decoding
from diffjax.config import Stopped, override
from diffjax.config import load as load_config
from diffjax.evaluation import Real, reconstruction
from diffjax.evaluation.gaussian import frechet_with_floor
from diffjax.features import DISTANCES
from diffjax.features.extractors import extract
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.subject import data_section
from diffjax.runs.trained import load
from diffjax.tools import encode
from diffjax.training.workdir import provenance
from experiments.latent import clock
from experiments.markdown import number, table

FILE, COMMAND = "latent.json", ("experiments.latent.study",)
NUM, SPLITS, SHOWN = 1000, 4, 12
"""Samples of each measurement, pairs of halves, and samples shown."""
REAL = 4
"""Training images at most, in multiples of the samples."""
FEATURES = ("pixels", "classifier")
CLOCK = 'train.writers=("experiments.latent.clock:Clock",)'


@dataclass(frozen=True)
class Data:
    """A data set of images: its source, the configs of autoencoder and network, and lengths.

    flips: whether mirrored images are encoded too. stages: the steps of the network at which
    samples are measured. longer: one more for the network of pixels, after about the time that
    autoencoder, encoding and network of latents take together, 0 for none. branches: the steps of
    each branch of the autoencoder, 0 for none. steps: those of the autoencoder, 0 for those of its
    config.
    """

    source: str
    vae: str
    network: str
    flips: bool
    stages: tuple[int, ...]
    longer: int = 0
    branches: int = 0
    steps: int = 0

    def shortened(self, steps: int) -> Data:
        """Return the data set with `steps` of every training."""
        some = self.branches and steps
        return dataclasses.replace(self, stages=(steps,), longer=0, branches=some, steps=steps)


DATA = {
    "cifar": Data(
        "tfds:cifar10", "cifar_vae", "cifar_latent_dit", True, (400, 800, 1600), 3600, 400
    ),
    "emoji": Data("emoji", "emoji_vae", "emoji_latent", False, (400, 800), 1900, 400),
}
LENGTHS = ("steps", "sample_every", "held_out_every", "checkpoint_every")
SLOWER = "optimizer.learning_rate=1e-3"
FIXED = (SLOWER, "optimizer.rates={'log_scale': 10.0, 'encoder': 0.0}")
BRANCHES = {
    "decoder": FIXED,
    "discriminator": (
        *FIXED,
        "loss.adversarial_weight=0.5",
        "loss.discriminator=patch_gan:channels=32,layers=2",
    ),
    "equivariance": (SLOWER, "loss.equivariance=0.5"),
}
"""Changes of the config, for autoencoders that begin with the weights of the first one."""
NETWORKS = {"pixels": "", "latents": "vae", "equivariant": "equivariance"}
"""The autoencoder in whose latents each network is trained."""
DECODERS = {"latents": ("decoder", "discriminator")}
"""Further decoders of the latents of a network: branches with the encoder of its autoencoder."""
PARTS = ("vae", *BRANCHES, *NETWORKS, "measure")


class Study:
    """The study of one data set, with its runs in a folder; results go to `rows`.

    write: a function that stores the results of all data sets. num: samples of each measurement.
    """

    def __init__(
        self,
        data: Data,
        runs: Path,
        rows: dict[str, Any],
        write: Callable[[], None],
        num: int = NUM,
    ):
        self.data, self.runs, self.rows, self.write, self.num = data, runs, rows, write, num

    @functools.cached_property
    def real(self) -> dict[str, Real]:
        """The training images by features, of which the classifier is fitted once."""
        source, reading = builder.construct_data(data_section(self.data.source), "source")
        self.runs.mkdir(parents=True, exist_ok=True)
        construct = lambda name: builder.construct_features(name, "features")
        most = REAL * self.num
        return {k: Real(source, reading, most, self.runs, construct(k)) for k in FEATURES}

    def distances(self, x: np.ndarray) -> dict[str, Any]:
        """Return the distance of images x to every second training image, with its floor."""
        found = {}
        for name, real in self.real.items():
            of_x = extract(real.extractor, x)["pool"]
            result = frechet_with_floor(of_x, real.features[::2], splits=SPLITS)
            found[name] = {k: round(getattr(result, k), 4) for k in ("distance", "floor")}
        return found

    def codec(self, name: str) -> Codec:
        """Return a trained autoencoder."""
        return builder.construct_codec(str(self.runs / name), name)

    def vae(self, name: str) -> None:
        """Train the autoencoder or a branch of it, and measure its reconstructions."""
        run, begin, changes = self.runs / name, None, [CLOCK]
        if steps := self.data.branches if name in BRANCHES else self.data.steps:
            changes += [f"train.{k}={steps}" for k in LENGTHS]
            changes += [f"optimizer.schedule.length={steps}"]
        if name in BRANCHES:
            begin, changes = self.runs / "vae", [*changes, *BRANCHES[name]]
        config = override(load_config(self.data.vae), changes)
        step = launch(config, run, resume_from=begin, resume_partial=bool(begin), command=COMMAND)
        row = {"steps": step, "seconds_per_step": round(clock.seconds_per_step(run), 4)}
        self.rows[name] = row | self.reconstructed(name)

    def reconstructed(self, name: str) -> dict[str, Any]:
        """Return similarities on test images, and store reconstructions of training images."""
        codec, edges, real = self.codec(name), DISTANCES["edges"](), self.real["pixels"]
        num = self.num
        rebuild = lambda items, x: reconstruction.reconstruct(codec, items.form, x[:num], edges)
        self.store(f"{name}-reconstruction", rebuild(real.train, real.train.x[1::REAL]).x)
        values = rebuild(real.test, real.test.x).values
        return {k: round(values[k], 4) for k in ("psnr", "ssim")}

    def encoded(self, name: str) -> Path:
        """Return the folder of the latents of an autoencoder, which are encoded once."""
        out, seconds = self.runs / f"{name}-latents", self.rows[name].get("encode_seconds", 0)
        if not (out / "encoded.json").exists():
            asked = {"source": self.data.source, "codec": str(self.runs / name), "batch_size": 64}
            began = time.process_time()
            try:
                encode.encoding(argparse.Namespace(**asked, flips=self.data.flips)).run(out)
            finally:
                spent = round(time.process_time() - began, 1)
                self.rows[name]["encode_seconds"] = seconds + spent
                self.write()
        return out

    def network(self, name: str) -> None:
        """Train a network to each stage, and measure its samples there."""
        run, codec = self.runs / name, NETWORKS[name]
        if codec:
            latents = self.encoded(codec)
            changes = [f"data.name=latents:{latents}", f"data.codec={self.runs / codec}"]
        else:
            flip = f"data.flip={self.data.flips}"
            changes = [f"data.name={self.data.source}", "data.codec=", "network.patch=4", flip]
        row = self.rows.setdefault(name, {"stages": []})
        further = (self.data.longer,) if name == "pixels" and self.data.longer else ()
        for steps in (*self.data.stages, *further):
            every = [f"train.{k}={self.data.stages[0]}" for k in LENGTHS[1:] if "held" not in k]
            fields = [CLOCK, *changes, f"train.steps={steps}", *every]
            if steps not in row["stages"]:
                launch(override(load_config(self.data.network), fields), run, command=COMMAND)
                row["seconds_per_step"] = round(clock.seconds_per_step(run), 4)
                self.sample(name, run, steps)
                row["stages"].append(steps)
                self.write()

    def sample(self, name: str, run: Path, steps: int) -> None:
        """Store samples of a run, decoded by each autoencoder that fits its latents."""
        trained = load(run)
        samples = trained.sample(self.num, seed=0, batch_size=250, latents=True)
        if not NETWORKS[name]:
            return self.store(f"{name}-{steps}", samples.x)
        last = steps == self.data.stages[-1]
        further = [k for k in DECODERS.get(name, ()) if last and k in self.rows]
        form = dataclasses.replace(trained.experiment.form, units=())
        for decoder in (NETWORKS[name], *further):
            images = Decoding(form, self.codec(decoder))(samples.x)
            mark = f"-{decoder}" if decoder in further else ""
            self.store(f"{name}-{steps}{mark}", images)

    def store(self, name: str, x: np.ndarray) -> None:
        """Store images to be measured."""
        folder = self.runs / "images"
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / f"{name}.npz", {"x": x})

    def measure(self) -> None:
        """Measure all stored images that have no distances yet."""
        found = self.rows.setdefault("frechet", {})
        for path in sorted((self.runs / "images").glob("*.npz")):
            if path.stem not in found:
                found[path.stem] = self.distances(read_arrays(path)["x"])
                print(f"{path.stem}: {found[path.stem]}", flush=True)
                self.write()

    def run(self, parts: Sequence[str]) -> None:
        """Train and measure parts, each after those that it needs, unless the file has them."""
        for name in parts:
            if name in BRANCHES and not self.data.branches:
                continue
            if name == "measure":
                self.measure()
            elif name in NETWORKS:
                if NETWORKS[name] in ("", "vae") or self.data.branches:
                    self.network(name)
            elif name not in self.rows:
                self.vae(name)
                self.write()


def of_codecs(rows: dict[str, Any]) -> list[list[str]]:
    """Return lines of the table of autoencoders."""
    lines = []
    measured = {k.removesuffix("-reconstruction"): v for k, v in rows["frechet"].items()}
    for name in (name for name in ("vae", *BRANCHES) if name in measured):
        row, found = rows[name], measured[name]
        cost = f"{row['steps'] * row['seconds_per_step']:.0f}"
        cells = [f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", *cells_of(found)]
        lines.append([name, f"{row['steps']:,}", cost, *cells])
    return lines


def cells_of(found: dict[str, dict[str, float]]) -> list[str]:
    """Return each distance with its multiple of the floor."""
    ratios = {k: v["distance"] / v["floor"] for k, v in found.items()}
    return [f"{number(found[k]['distance'])} ({number(ratios[k])})" for k in FEATURES]


def of_networks(rows: dict[str, Any]) -> list[list[str]]:
    """Return lines of the table of networks: a line for each stage and each decoder."""
    lines = []
    for name in (name for name in NETWORKS if name in rows):
        for steps in rows[name]["stages"]:
            seconds = f"{steps * rows[name]['seconds_per_step']:.0f}"
            for decoder in ("", *DECODERS.get(name, ())):
                mark = f"-{decoder}" if decoder else ""
                if found := rows["frechet"].get(f"{name}-{steps}{mark}"):
                    title = f"{name}, decoded by {decoder}" if decoder else name
                    lines.append([title, f"{steps:,}", seconds, *cells_of(found)])
    return lines


def costs(rows: dict[str, Any], codec: str) -> tuple[float, float]:
    """Return the CPU seconds of training an autoencoder, and of encoding the images by it."""
    trained = [rows[k] for k in dict.fromkeys(("vae", codec))]
    seconds = sum(row["steps"] * row["seconds_per_step"] for row in trained)
    return seconds, rows[codec]["encode_seconds"]


def of_costs(rows: dict[str, Any]) -> list[list[str]]:
    """Return lines of the table of CPU seconds before a network of latents can train."""
    names = [k for k in NETWORKS.values() if "encode_seconds" in rows.get(k, {})]
    return [[name, *(f"{seconds:.0f}" for seconds in costs(rows, name))] for name in names]


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    report = json.loads((folder / FILE).read_text())
    heads = [f"{name}: distance (over floor)" for name in FEATURES]
    by_name = {}
    for data in (data for data in DATA if "frechet" in report.get(data, {})):
        rows = report[data]
        head = ["autoencoder", "steps", "CPU s", "PSNR", "SSIM", *heads]
        by_name[f"latent-{data}-codecs"] = table(head, of_codecs(rows))
        head = ["network", "steps", "CPU s", *heads]
        by_name[f"latent-{data}"] = table(head, of_networks(rows))
        head = ["latents of", "CPU s of its training", "CPU s of encoding"]
        by_name[f"latent-{data}-costs"] = table(head, of_costs(rows))
    return by_name


def curves(rows: dict[str, Any], features: str) -> np.ndarray:
    """Draw distances over their floor against CPU seconds, with and without the autoencoder."""
    over = lambda name: rows["frechet"][name][features]
    series = {}
    for name in (name for name in NETWORKS if name in rows):
        steps = [k for k in rows[name]["stages"] if f"{name}-{k}" in rows["frechet"]]
        seconds = np.array([k * rows[name]["seconds_per_step"] for k in steps])
        found = [over(f"{name}-{k}") for k in steps]
        ratios = np.array([f["distance"] / f["floor"] for f in found])
        series[name] = seconds, ratios
        if codec := NETWORKS[name]:
            series[f"{name}, with the autoencoder"] = seconds + sum(costs(rows, codec)), ratios
    found, seconds = over("vae-reconstruction"), np.concatenate([x for x, _ in series.values()])
    ends = np.array([seconds.min(), seconds.max()])
    series["reconstructions"] = ends, np.full(2, found["distance"] / found["floor"])
    return plot.lines(series, x="CPU seconds", y=f"Frechet distance / floor, {features}", log="xy")


def picture(rows: dict[str, Any], folder: Path, x: np.ndarray) -> np.ndarray:
    """Draw training images, their reconstructions, and samples of every network, a row each."""
    names = ["vae-reconstruction"]
    for name in (name for name in NETWORKS if name in rows):
        names += [f"{name}-{steps}" for steps in rows[name]["stages"]]
        names += [f"{names[-1]}-{decoder}" for decoder in DECODERS.get(name, ())]
    names = [name for name in names if name in rows["frechet"]]
    images = [x[1::REAL], *(read_arrays(folder / f"{name}.npz")["x"] for name in names)]
    drawn = [row[None, :SHOWN] for row in images]
    return plot.strips(drawn, ["data", *names], [""] * SHOWN)


def flags() -> argparse.ArgumentParser:
    """Return the parser of the study's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/latent"))
    parser.add_argument("--out", type=Path, default=Path("experiments/latent"))
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--steps", type=cli.positive, help="of every training, 100, 150, ...")
    parser.add_argument("--num", type=cli.positive, default=NUM, help="samples of a measurement")
    return parser


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    asked = flags().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    path = asked.out / FILE
    about = {"num": asked.num, "real": REAL * asked.num, "splits": SPLITS}
    about |= {"steps": asked.steps} if asked.steps else {}
    report = json.loads(path.read_text()) if path.exists() else {}
    report = report if report.get("about") == about else {"about": about}
    report |= provenance()
    write = lambda: write_text(path, json.dumps(report, indent=1) + "\n")
    for name in asked.data:
        rows = report.setdefault(name, {})
        data = DATA[name].shortened(asked.steps) if asked.steps else DATA[name]
        study = Study(data, asked.runs.resolve() / name, rows, write, asked.num)
        try:
            study.run(asked.parts)
        except Stopped as stopped:
            return interrupted(stopped, COMMAND[0])
        if "frechet" in rows:
            drawn = picture(rows, study.runs / "images", study.real["pixels"].train.x)
            plot.save(asked.out / f"{name}-samples.png", drawn)
            for features in FEATURES:
                plot.save(asked.out / f"{name}-{features}.png", curves(rows, features))
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
