"""Spoken digits by class: does an independent classifier hear the word that was asked for?

    python -m experiments.spoken.speak --out=data/spoken
    python -m experiments.spoken.bands --path=data/spoken --out=data/spoken_bands.npz
    python -m diffjax.train --config=configs/spoken_bands.py --workdir=runs/spoken_bands
    python -m experiments.spoken.study --data=data/spoken --run=runs/spoken_bands \\
        --out=experiments/spoken

Sounds of all classes are generated as pictures of mel bands, with each of several guidance weights;
Griffin-Lim makes sounds of them. A run of the config `spoken`, which learns waveforms, stands
beside it with --waves. The classifier of mel bands, which is fitted to the training sounds, says
which sounds have the class that was asked for. The Frechet distances in features of mel bands and
of the classifier stand beside their floors, and beside those of held-out voices. The distances to
the nearest training sound, between pictures of mel bands, stand beside those of held-out voices and
of training sounds to each other. Generated sounds are stored in the runs, so that a second call
measures them only. Writes spoken.json and spectrograms.png, and into --run listen.html, which plays
sounds.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import diffjax
from diffjax import cli, plot
from diffjax.data import Reading
from diffjax.data.kinds import audio
from diffjax.data.kinds.players import page
from diffjax.data.sounds import sounds
from diffjax.evaluation import Real, Samples, frechet
from diffjax.evaluation.neighbours import nearest
from diffjax.features import EXTRACTORS
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.intervals import wilson
from diffjax.training.workdir import provenance
from experiments.markdown import number, table
from experiments.spoken.bands import heard, pictures
from experiments.spoken.speak import LENGTH, RATE

FILE = "spoken.json"
NUM, FEW, STEPS, MOST = 200, 100, 16, 10_000
"""Sounds of each row, at most that many waveforms, steps of the sampler, and the largest number of
real sounds that are read."""
WEIGHTS, ONE = (1.0, 1.5, 2.0, 3.0), 2.0
"""Guidance weights of pictures, and that of waveforms."""
BEFORE = 128
"""Samples at the beginning of a sound, 16 ms, before which no word begins in most sounds."""
HELD_OUT, THROUGH = "held-out voices", "held-out voices: Griffin-Lim"
Convert = Callable[[np.ndarray], np.ndarray]
"""Makes int16 sounds (N, 4096, 1) of the samples of a network."""


class Made(NamedTuple):
    """Sounds, and what their row says besides what is measured."""

    samples: Samples
    about: dict[str, Any]


def drawn(run: Path, weight: float, num: int, steps: int, convert: Convert) -> Made:
    """Return sounds of all classes in turn with a guidance weight, stored in the run."""
    trained = diffjax.load(run)
    label = np.arange(num) % trained.experiment.form.classes
    file = run / f"spoken-{trained.step}-{weight:g}-{steps}-{num}.npz"
    if not file.exists():
        begin = time.process_time()
        request: dict[str, Any] = {"label": label.tolist(), "guidance": weight, "steps": steps}
        x = convert(trained.sample(num, batch_size=50, **request).x)
        write_arrays(file, {"x": x, "seconds": np.array(time.process_time() - begin)})
    stored = read_arrays(file)
    about = {"step": trained.step, "seconds": round(float(stored["seconds"]), 1)}
    return Made(Samples(stored["x"], label), about)


def level(x: np.ndarray) -> float | None:
    """Return the median level (dB) of the first 16 ms of int16 sounds (N, L, 1), below full scale.

    It is None where most of these beginnings are silent.

    >>> round(level(np.full((3, 200, 1), 328, np.int16)))
    -40
    """
    power = float(np.median(np.mean((x[:, :BEFORE, 0] / 32768.0) ** 2, 1)))
    return round(10 * float(np.log10(power)), 1) if power > 0 else None


def measured(spaces: dict[str, Real], samples: Samples) -> dict[str, Any]:
    """Return the agreement of a classifier with the classes, and the distances of both spaces."""
    label = np.asarray(samples.label)
    right = spaces["classifier"].judge.right(samples.x, label)
    each = {str(k): round(float(right[label == k].mean()), 3) for k in np.unique(label).tolist()}
    return {
        "count": len(samples.x),
        "agreement": float(right.mean()),
        "interval": wilson(float(right.mean()), len(right)),
        "of_classes": each,
        "quiet": level(samples.x),
        **{f"frechet_{name}": frechet(real, samples)["ratio"] for name, real in spaces.items()},
    }


def near(x: np.ndarray, train: np.ndarray, others: bool = False) -> dict[str, float]:
    """Return the median and least distance of items (N, D) to training items (M, D).

    others: whether the items are training items, whose distance to another one is meant.

    >>> near(np.array([[0.0], [3.0]]), np.array([[1.0], [5.0]]))
    {'median': 1.5, 'least': 1.0}
    """
    distance = nearest(x, train, 2 if others else 1)[0][:, -1]
    return {
        "median": round(float(np.median(distance)), 3),
        "least": round(float(distance.min()), 3),
    }


def copies(real: Real, sounds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the distances of sounds to the nearest training sounds, as pictures of mel bands.

    A distance is the root of the mean squared difference of levels, in decibels.
    """
    see = lambda x: np.concatenate(
        [real.judge.see(part).astype(np.float32) for part in np.array_split(x, 1 + len(x) // 200)]
    )
    train = see(real.train.x)
    scale = audio.DECIBELS / 255 / np.sqrt(train[0].size)
    flat = lambda a: scale * a.reshape(len(a), -1)
    every = {name: near(flat(see(x)), flat(train)) for name, x in sounds.items()}
    some = flat(train[:: max(1, len(train) // 500)])
    return every | {"training sounds, to others": near(some, flat(train), others=True)}


def spectrograms(real: Real, rows: dict[str, np.ndarray], titles: list[str]) -> np.ndarray:
    """Return a picture of the mel bands over time of one sound of each class, a row for each."""
    seen = [
        real.judge.see(x[: len(titles)]).transpose(0, 2, 1, 3)[None, :, ::-1] for x in rows.values()
    ]
    return plot.strips(seen, [*rows], titles)


def rows(asked: argparse.Namespace, real: Real) -> Iterator[tuple[str, Made]]:
    """Return the sounds of each row of the tables, by name."""
    test, label = real.test.x, real.test.labels()
    pick = np.linspace(0, len(test) - 1, min(asked.num, len(test))).astype(int)
    yield HELD_OUT, Made(Samples(test[pick], label[pick]), {})
    yield THROUGH, Made(Samples(heard(pictures(test[pick])), label[pick]), {})
    for weight in asked.guidance:
        made = drawn(asked.run, weight, asked.num, asked.steps, heard)
        yield f"pictures, guidance {weight:g}", made
    if asked.waves:
        num = min(asked.num, FEW)
        made = drawn(asked.waves, ONE, num, asked.steps, np.asarray)
        yield f"waveforms, guidance {ONE:g}", made


def study(asked: argparse.Namespace) -> None:
    """Generate sounds in every way and measure them; what is measured is written at once."""
    source = functools.partial(sounds, path=str(asked.data), length=LENGTH, classes=True)
    folder = asked.run / "evaluation"
    spaces = {
        name: Real(source, Reading(), MOST, folder, EXTRACTORS[name])
        for name in ("mel", "classifier")
    }
    real, names = spaces["classifier"], list(source("train").form.class_names)
    report: dict[str, Any] = {"steps": asked.steps, "classes": names, "rows": {}}
    every, shown = {}, {}
    for name, (samples, about) in rows(asked, real):
        report["rows"][name] = about | measured(spaces, samples)
        print(name, report["rows"][name], flush=True)
        write_text(asked.out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
        label = np.asarray(samples.label)
        one = [int(np.flatnonzero(label == k)[0]) for k in range(len(names))]
        every[name], shown[name] = samples.x, samples.x[one]
    report["nearest"] = copies(real, every)
    write_text(asked.out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    plot.save(asked.out / "spectrograms.png", spectrograms(real, shown, names))
    few = {name: x for name, x in shown.items() if "guidance" in name}
    told = [f"{name}: {word}" for name in few for word in names]
    every_word = np.concatenate([*few.values()])
    write_text(asked.run / "listen.html", page(every_word, RATE, "Spoken digits", told))


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    report = json.loads((folder / FILE).read_text())
    percent = lambda share: f"{100 * share:.1f}"
    rows = [
        [
            name,
            f"{row['count']}",
            f"{percent(row['agreement'])} % ({' to '.join(map(percent, row['interval']))})",
            number(row["frechet_mel"]),
            number(row["frechet_classifier"]),
            "silent" if row["quiet"] is None else f"{row['quiet']:.0f}",
            f"{row['seconds']:.0f}" if "seconds" in row else "",
        ]
        for name, row in report["rows"].items()
    ]
    heads = ["", "sounds", "word recognised", "Frechet over floor, mel bands"]
    heads += ["Frechet over floor, classifier", "first 16 ms, dB", "CPU s"]
    close = [[k, f"{v['median']:.2f}", f"{v['least']:.2f}"] for k, v in report["nearest"].items()]
    of_classes = [
        [name, *(percent(row["of_classes"][str(k)]) for row in report["rows"].values())]
        for k, name in enumerate(report["classes"])
    ]
    return {
        "spoken": table(heads, rows),
        "spoken-nearest": table(["", "median, dB", "least, dB"], close),
        "spoken-classes": table(["recognised, %", *report["rows"]], of_classes),
    }


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--data", type=cli.path, required=True, help="the folder of sounds")
    flags.add_argument("--run", type=cli.path, required=True, help="a run of spoken_bands.py")
    flags.add_argument("--waves", type=cli.path, help="a run of spoken.py")
    flags.add_argument("--out", type=Path, default=Path("experiments/spoken"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="sounds of each weight")
    flags.add_argument("--steps", type=cli.positive, default=STEPS, help="steps of the sampler")
    flags.add_argument("--guidance", type=float, nargs="+", default=WEIGHTS, help="weights")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    cli.main(main)
