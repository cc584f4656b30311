"""A vocoder: sounds from mel bands, by diffusion of their excitation, and by Griffin-Lim.

    python -m experiments.vocoder.study --run=runs/vocoder --out=experiments/vocoder

The run is that of the config `vocoder`. For held-out sounds of half a second each, the mel bands
alone are given: to the network, with STEPS steps of DPM-Solver++; to the same filter and correction
of levels with white noise in place of the network; and to Griffin-Lim, with ITERATIONS, from two
magnitudes that have the levels. A mean of DRAWS draws in log magnitude stands beside single draws.
The log-spectral distance to the true sound is that of the metric `log_spectral`, and the Frechet
distance in features of mel bands stands beside its floor. Two references say what the mel bands
lose: Griffin-Lim with the true magnitudes, and the true sound with random phases. Writes
vocoder.json and spectrograms, and into the run listen.html, which plays the sounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import builder, cli, plot
from diffjax.data import spectra
from diffjax.data.excitation import Filter
from diffjax.data.kinds.players import page
from diffjax.data.kinds.storing import to_int16
from diffjax.evaluation import frechet_with_floor
from diffjax.evaluation.samples import Real
from diffjax.evaluation.spectral import SILENCE, distance
from diffjax.features import EXTRACTORS, extract
from diffjax.files import write_text
from diffjax.runs.subject import compared_section
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "vocoder.json"
STEPS, ITERATIONS, NUM, SHOWN, DRAWS = (4, 8, 20), (32, 200), 128, 6, 8
QUIET = 0.01
"""Windows whose deviation is below this, such as pauses, are left out."""
DIFFUSION, WHITE = f"diffusion, {STEPS[-1]} steps", "white excitation"
FILTER, MEAN = "filter alone", f"mean of {DRAWS}"
CORRECTED = f"Griffin-Lim {ITERATIONS[-1]} of the envelope, levels corrected"
TRUE = "true magnitudes, Griffin-Lim 200"
PHASES = "true magnitudes, random phases"


def chosen(x: np.ndarray, num: int) -> np.ndarray:
    """Return the indices of at most `num` sounds (N, L, 1) that are not quiet, evenly spread."""
    loud = np.flatnonzero(x.std((1, 2)) >= QUIET)
    return loud[np.linspace(0, len(loud) - 1, min(num, len(loud))).astype(int)]


@dataclasses.dataclass(frozen=True)
class Given:
    """What is known of held-out sounds: the map `mel` of each, and the filter that it states."""

    trained: Trained
    mel: np.ndarray

    @property
    def filter(self) -> Filter:
        return self.trained.experiment.form.filter

    def excitations(self, steps: int, seed: int = 0) -> np.ndarray:
        """Draw excitations (N, blocks, bins, 1) by the network."""
        job = self.trained.job(seed=seed, cond={"mel": self.mel}, steps=steps, batch_size=32)
        plain = dataclasses.replace(job.form, units=())
        return dataclasses.replace(job, form=plain).samples(len(self.mel)).x

    def white(self, seed: int = 0) -> np.ndarray:
        """Draw white noise of deviation 1 as excitations."""
        return np.random.default_rng(seed).normal(size=(*self.mel.shape[:3], 1))

    def filtered(self, y: np.ndarray) -> np.ndarray:
        """Return the sounds (N, L) of excitations, behind the filter alone."""
        return self.filter.filtered(y, self.mel)[..., 0]

    def sounds(self, y: np.ndarray) -> np.ndarray:
        """Return the sounds (N, L) of excitations, with their levels corrected."""
        return self.filter.sounds(y, self.mel)[..., 0]

    def corrected(self, x: np.ndarray) -> np.ndarray:
        """Return sounds (N, L) with their levels corrected."""
        return self.filter.corrected(x[..., None], self.mel)[..., 0]

    def mean(self, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return sounds (N, L) with the mean of DRAWS draws in log magnitude.

        The least expected squared distance of logarithms of magnitudes is that of their posterior
        mean. Griffin-Lim finds the phases, beginning with those of the first draw.
        """
        draws = [self.sounds(draw(seed)) for seed in range(DRAWS)]
        logs = np.mean([np.log(np.abs(spectra.stft(x)) + SILENCE) for x in draws], 0)
        size, length = np.exp(logs) - SILENCE, draws[0].shape[-1]
        return self.corrected(spectra.griffin_lim(size, length, iterations=32, start=draws[0]))


def makers(given: Given, x: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Return what makes sounds (N, L) of the mel bands of the held-out sounds x, by name."""
    rate, length, last = given.filter.rate, x.shape[1], STEPS[-1]
    size, levels = np.abs(spectra.stft(x)), spectra.log_mel(x, rate)
    phases = lambda n, magnitudes: spectra.griffin_lim(magnitudes, length, iterations=n)
    least, smooth = spectra.magnitude(levels, rate), spectra.envelope(levels, rate)
    most = ITERATIONS[-1]
    return {
        **{
            f"diffusion, {n} steps": (lambda n=n: given.sounds(given.excitations(n))) for n in STEPS
        },
        f"{DIFFUSION}, {FILTER}": lambda: given.filtered(given.excitations(last)),
        f"{DIFFUSION}, {MEAN}": lambda: given.mean(lambda k: given.excitations(last, k)),
        WHITE: lambda: given.sounds(given.white()),
        f"{WHITE}, {FILTER}": lambda: given.filtered(given.white()),
        f"{WHITE}, {MEAN}": lambda: given.mean(given.white),
        **{f"Griffin-Lim {n}": (lambda n=n: phases(n, least)) for n in ITERATIONS},
        f"Griffin-Lim {most} of the envelope": lambda: phases(most, smooth),
        CORRECTED: lambda: given.corrected(phases(most, smooth)),
        TRUE: lambda: phases(200, size),
        PHASES: lambda: phases(0, size),
    }


def judged(real: Real, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the distances of sounds y (N, L) to the true ones x, and of their features."""
    mel = real.extractor
    of = [extract(mel, to_int16(a[..., None]))["pool"] for a in (y, x)]
    frechet = frechet_with_floor(of[0], real.features)
    return {
        "decibels": float(distance(x, y).mean()),
        "frechet": float(frechet.distance / frechet.floor),
        "features": float(np.abs(of[0] - of[1]).mean()),
    }


def spectrograms(sounds: dict[str, np.ndarray]) -> np.ndarray:
    """Return a picture of the levels of frequencies over time, a row for each maker."""
    rows = []
    for x in sounds.values():
        size = np.abs(spectra.stft(x[:SHOWN], hop=32))
        levels = np.log10(np.maximum(size, SILENCE)) / 4 + 1  # 0 to 1 for -80 dB to 0 dB
        grey = np.round(255 * np.clip(levels / 0.9, 0, 1)).astype(np.uint8)
        rows.append(grey.transpose(0, 2, 1)[None, :, ::-1, :, None])
    return plot.strips(rows, [*sounds], [str(k + 1) for k in range(min(SHOWN, len(x)))])


def study(run: Path, out: Path, num: int) -> None:
    """Make sounds in every way and measure them; what is measured is written at once."""
    trained = load(run)
    section = compared_section(trained.config["data"])
    source, reading = builder.construct_data(section, "config.data")
    test = source("test")
    rate = dict(test.form.units)["rate"]
    index = chosen(test[np.arange(len(test))]["x"] / 32768.0, num)
    x = test[index]["x"][..., 0] / 32768.0
    given = Given(trained, trained.experiment.source("test")[index]["mel"])
    real = Real(source, reading, len(source("train")), out, EXTRACTORS["mel"])
    report: dict[str, Any] = {"step": trained.step, "sounds": len(x), "rows": {}}
    sounds = {"true": x}
    for name, make in makers(given, x).items():
        began = time.process_time()
        sounds[name] = make()
        seconds = time.process_time() - began
        found = {**judged(real, x, sounds[name]), "seconds": round(seconds, 1)}
        report["rows"][name] = found
        print(name, found, flush=True)
    report["rows"]["true"] = judged(real, x, x) | {"seconds": 0.0}
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    shown = ("true", DIFFUSION, WHITE, f"Griffin-Lim {ITERATIONS[-1]}")
    narrow = {
        n.replace(",", "").replace(" ", ", ", 1): sounds[n] for n in shown
    }  # a label breaks at a comma
    plot.save(out / "spectrograms.png", spectrograms(narrow))
    few = np.concatenate([x[:SHOWN, :, None] for x in sounds.values()])
    names = [f"{name}, {k + 1}" for name, x in sounds.items() for k in range(len(x[:SHOWN]))]
    write_text(run / "listen.html", page(few, rate, "Sounds from their mel bands", names))


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    lines = [
        [
            name,
            f"{row['decibels']:.2f}",
            f"{row['frechet']:.2f}",
            f"{row['seconds']:.1f}" if row["seconds"] else "",
        ]
        for name, row in report["rows"].items()
    ]
    heads = ["", "log-spectral distance, dB", "Frechet distance over floor", "CPU seconds"]
    return {"vocoder": table(heads, lines)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, default=Path("runs/vocoder"), help="a trained vocoder")
    flags.add_argument("--out", type=Path, default=Path("experiments/vocoder"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="sounds that are made")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
