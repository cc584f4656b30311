"""How much of a watermark survives: samplers, inversions, JPEG, noise, resizing and crops.

    python -m diffjax.train --config=configs/cifar_vp_small.py --workdir=runs/cifar
    python -m experiments.watermark.study --out=experiments/watermark --workdir=runs/cifar \\
        --name=cifar

Marks the samples of a run of images under a fixed key, changes them, and reads the messages again.
Writes NAME.json, with a row per case, and NAME.png: samples without and with a mark, and how the
changes look. After an interruption the same command resumes: rows that are there are not computed
again.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffjax import cli
from diffjax.data.kinds.drawing import grid, save
from diffjax.files import write_text
from diffjax.runs.detecting import initial_noise
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from diffjax.watermark import Key, Reading, Watermark, bits_of, read, tail
from experiments.markdown import table

SEED, RATE, KEYS = 0, 1e-6, 200
"""Seed of the samples, false-positive rate, and number of wrong keys for unmarked images."""
SAMPLERS = (
    *("ddim 25", "ddim 10", "dpmpp_2m 25", "heun 13"),
    *("ddim:eta=0.1 25", "ddim:eta=0.3 25", "ddim:eta=0.6 25", "ancestral 25"),
)
"""Samplers with their numbers of steps."""
BASE = "ddim 25"
"""The samples that are changed."""
CLASS = 3
STEPS = (10, 25)
"""Steps of the inversion."""
Images = np.ndarray


def jpeg(x: Images, quality: int) -> Images:
    """Return images after JPEG of this quality."""

    def one(image: Images) -> Images:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture.save(file := io.BytesIO(), "JPEG", quality=quality)
        return np.asarray(Image.open(file)).reshape(image.shape)

    return np.stack([one(image) for image in x])


def resized(x: Images, factor: float) -> Images:
    """Return images resized by a factor and back, bicubic."""

    def one(image: Images) -> Images:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        sides = round(factor * picture.width), round(factor * picture.height)
        again = picture.resize(sides, Image.Resampling.BICUBIC).resize(
            picture.size, Image.Resampling.BICUBIC
        )
        return np.asarray(again).reshape(image.shape)

    return np.stack([one(image) for image in x])


def noisy(x: Images, std: float) -> Images:
    """Return images with normal noise of this deviation in grey levels."""
    noise = np.random.default_rng(0).normal(size=x.shape) * std
    return np.clip(x + noise, 0, 255).round().astype(np.uint8)


def cut(x: Images, share: float, stretch: bool) -> Images:
    """Return the centre of images, a share of each side, on grey or stretched to the whole."""
    side = x.shape[1]
    keep = round(share * side)
    first = (side - keep) // 2
    inner = x[:, first : first + keep, first : first + keep]
    if not stretch:
        whole = np.full_like(x, 128)
        whole[:, first : first + keep, first : first + keep] = inner
        return whole
    one = lambda i: Image.fromarray(i[..., 0] if i.shape[-1] == 1 else i)
    large = [one(i).resize((side, side), Image.Resampling.BICUBIC) for i in inner]
    return np.stack([np.asarray(i).reshape(x.shape[1:]) for i in large])


def brighter(x: Images, factor: float) -> Images:
    """Return images with grey levels times a factor."""
    return np.clip(x * factor, 0, 255).round().astype(np.uint8)


CHANGES: dict[str, Callable[[Images], Images]] = {
    "none": lambda x: x,
    **{f"JPEG, quality {q}": functools.partial(jpeg, quality=q) for q in (95, 85, 70, 50, 30)},
    **{f"noise, std {s}": functools.partial(noisy, std=s) for s in (2, 5, 10, 20)},
    **{f"resized by {f:g} and back": functools.partial(resized, factor=f) for f in (2, 0.75, 0.5)},
    "brighter by 20 %": functools.partial(brighter, factor=1.2),
    "centre of 75 %, rest grey": functools.partial(cut, share=0.75, stretch=False),
    "centre of 90 %, stretched": functools.partial(cut, share=0.9, stretch=True),
    "moved by one pixel": lambda x: np.roll(x, 1, 2),
    "mirrored": lambda x: x[:, :, ::-1],
}
"""Changes of images, by name."""


class Study:
    """A run with a key, and the rows measured so far."""

    def __init__(self, trained: Trained, asked: argparse.Namespace):
        self.trained, self.asked = trained, asked
        self.key = Key(b"key of experiments.watermark.22.", asked.bits)
        self.mark = Watermark(self.key, bits_of("0x" + "5a" * (asked.bits // 8), asked.bits), True)
        self.path = asked.out / f"{asked.name}.json"
        self.report: dict[str, Any] = {"rows": {}, "cpu_seconds": 0}
        if self.path.exists():
            self.report = json.loads(self.path.read_text())
        self.report |= {"provenance": provenance(), "num": asked.num, "bits": asked.bits}
        self.report["values"] = int(np.prod(trained.experiment.form.shape))
        self._began = time.process_time()
        self._kept: dict[tuple[Any, ...], Images] = {}

    def samples(self, sampler: str, marked: bool = True, **more: Any) -> Images:
        """Return samples of `name steps`, which are kept."""
        at = (sampler, marked, *more.items())
        if at not in self._kept:
            self._kept[at] = self._sampled(sampler, marked, more)
        return self._kept[at]

    def _sampled(self, sampler: str, marked: bool, more: Mapping[str, Any]) -> Images:
        name, steps = sampler.rsplit(" ", 1)
        mark = self.mark if marked else None
        request = {"sampler": name, "steps": int(steps), "seed": SEED, "batch_size": 64} | dict(
            more
        )
        return self.trained.sample(self.asked.num, watermark=mark, **request).x

    def noise(self, sampler: str, change: str = "none", steps: int = 25) -> np.ndarray:
        """Return the initial noise as it is read from changed samples."""
        x = CHANGES[change](self.samples(sampler))
        return initial_noise(self.trained, x, steps=steps)

    def of_class(self, weight: float, label: int | None) -> np.ndarray:
        """Return the noise of samples of CLASS, guided, for a detector that may know the class."""
        x = self.samples(BASE, guidance=weight, label=CLASS)
        return initial_noise(self.trained, x, steps=25, label=label)

    def row(self, name: str, noise: Callable[[], np.ndarray]) -> None:
        """Measure a row, unless it is there."""
        if name in self.report["rows"]:
            return
        messages, found = [self.mark.message], noise()
        known = [read(self.key, z, [(SEED, k)], messages) for k, z in enumerate(found)]
        blind = [read(self.key, z, [(SEED, k)]) for k, z in enumerate(found)]
        self._keep(name, self._measured(known, blind))

    def _measured(self, known: list[Reading], blind: list[Reading]) -> dict[str, float]:
        """Return shares of signs, of images that are marked, and of messages and bits."""
        truth = np.array(self.mark.message)
        bits = np.array([one.message for one in blind]) == truth
        return {
            "signs": float(np.mean([one.agreeing / one.of for one in known])),
            "marked": float(np.mean([one.p <= RATE for one in known])),
            "marked_blind": float(np.mean([one.p <= RATE for one in blind])),
            "bits": float(bits.mean()),
            "messages": float(bits.all(1).mean()),
        }

    def unmarked(self) -> None:
        """Count false positives of many keys on samples without a mark."""
        if (name := "no mark") in self.report["rows"]:
            return
        z = initial_noise(self.trained, self.samples(BASE, marked=False), steps=25)
        keys = [Key(i.to_bytes(32, "big"), self.key.bits) for i in range(KEYS)]
        test = lambda key, noise, k: read(key, noise, [(SEED, k)], [self.mark.message])
        tests = [test(key, noise, k) for k, noise in enumerate(z) for key in keys]
        p = np.array([one.p for one in tests])
        counts = np.array([one.agreeing / one.of for one in tests])
        # The tests have whole numbers of values: the largest attainable rate up to the wanted one.
        values = self.report["values"]
        rates = [tail(k, values) for k in range(values + 2)]
        attained = {rate: max(r for r in rates if r <= rate) for rate in (0.1, 0.01, 0.001)}
        found = {f"{rate:g}": [attained[rate], float((p <= rate).mean())] for rate in attained}
        self._keep(name, {"signs": float(counts.mean()), "tests": int(p.size), "rates": found})

    def _keep(self, name: str, row: Mapping[str, Any]) -> None:
        self.report["rows"][name] = dict(row)
        now = time.process_time()
        self.report["cpu_seconds"] = round(self.report["cpu_seconds"] + now - self._began)
        self._began = now
        write_text(self.path, json.dumps(self.report, indent=1) + "\n")
        print(name, row, flush=True)

    def run(self) -> None:
        """Measure all rows."""
        for sampler in SAMPLERS:
            self.row(f"sampler {sampler}", lambda s=sampler: self.noise(s))
        for steps in STEPS:
            self.row(f"inversion {steps}", lambda n=steps: self.noise(BASE, steps=n))
        for change in CHANGES:
            self.row(f"change {change}", lambda c=change: self.noise(BASE, c))
        self.unmarked()
        self.picture()
        if self.trained.conditional and self.trained.experiment.classes:
            for weight in (1.0, 2.0):
                for known, label in (("unknown", None), ("known", CLASS)):
                    read_as = functools.partial(self.of_class, weight, label)
                    self.row(f"class {known}, guidance {weight:g}", read_as)

    def picture(self) -> None:
        """Draw eight samples without and with a mark, and after some changes."""
        names = ("JPEG, quality 50", "noise, std 10", "resized by 0.5 and back")
        rows = [self.samples(BASE, marked=False)[:8], self.samples(BASE)[:8]]
        rows += [CHANGES[name](rows[1]) for name in names]
        save(self.asked.out / f"{self.asked.name}.png", grid(np.concatenate(rows), columns=8))


PARTS = {
    "sampler": ("sampler, steps", "samplers"),
    "inversion": ("steps of the inversion", "inversions"),
    "class": ("detector, sampler", "classes"),
    "change": ("change of the image", "changes"),
}
"""Parts of the report: the head of the first column, and the end of the table's name."""
COLUMNS = {"signs": "signs", "marked": "found, message known", "marked_blind": "unknown"}
COLUMNS |= {"bits": "bits", "messages": "messages"}


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of all files of the study."""
    made: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        rows = json.loads(path.read_text())["rows"]
        for part, (head, name) in PARTS.items():
            found = {k: row for k, row in rows.items() if k.startswith(part)}
            lines = [
                [
                    k.removeprefix(part).strip() if part != "class" else k,
                    f"{row['signs']:.3f}",
                    *(f"{row[c]:.0%}" for c in COLUMNS if c != "signs"),
                ]
                for k, row in found.items()
            ]
            if lines:
                made[f"watermark-{path.stem}-{name}"] = table([head, *COLUMNS.values()], lines)
        if "no mark" in rows:
            rates = rows["no mark"]["rates"].items()
            lines = [[wanted, f"{exact:.5f}", f"{seen:.5f}"] for wanted, (exact, seen) in rates]
            heads = ["rate asked for", "exact rate of the threshold", "measured"]
            made[f"watermark-{path.stem}-false"] = table(heads, lines)
    return made


def main() -> None:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True, help="a run of images")
    parser.add_argument("--name", default="cifar", help="of the files in --out")
    parser.add_argument("--num", type=int, default=24, help="samples")
    parser.add_argument("--bits", type=int, default=32, help="bits of the message")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    Study(load(asked.workdir), asked).run()
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
