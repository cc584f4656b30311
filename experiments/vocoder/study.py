"""A vocoder: sounds from mel bands, by diffusion in few and many steps, and by Griffin-Lim.

    python -m experiments.vocoder.study --run=runs/vocoder --out=experiments/vocoder

The run is that of the config `vocoder`. For held-out sounds of at least half a second each, the
mel bands alone are given: to the network, with STEPS steps of DPM-Solver++; and to Griffin-Lim,
with ITERATIONS. The log-spectral distance to the true sound is that of the metric `log_spectral`,
and the Frechet distance in features of mel bands stands beside its floor. Two references say what
the mel bands lose: Griffin-Lim with the true magnitudes, and the true sound with random phases.
Writes vocoder.json and spectrograms, and into the run listen.html, which plays the sounds.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, plot
from diffjax.data import spectra
from diffjax.data.kinds.storing import to_int16, wav_bytes
from diffjax.evaluation import frechet_with_floor
from diffjax.evaluation.samples import Real
from diffjax.evaluation.spectral import distance
from diffjax.features import EXTRACTORS, extract
from diffjax.files import write_text
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "vocoder.json"
STEPS, ITERATIONS, NUM, SHOWN = (2, 4, 8, 20), (32, 200), 128, 6
QUIET = 0.01
"""Windows whose deviation is below this, such as pauses, are left out."""
TRUE = "true magnitudes, Griffin-Lim 200"
PHASES = "true magnitudes, random phases"


def chosen(x: np.ndarray, num: int) -> np.ndarray:
    """Return the indices of at most `num` sounds (N, L, 1) that are not quiet, evenly spread."""
    loud = np.flatnonzero(x.std((1, 2)) >= QUIET)
    return loud[np.linspace(0, len(loud) - 1, min(num, len(loud))).astype(int)]


def makers(trained: Trained, index: np.ndarray, x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return what makes sounds (N, L) of the mel bands of the held-out sounds x, by name."""
    rate, length = dict(trained.experiment.form.units)["rate"], x.shape[1]
    size = np.abs(spectra.stft(x))
    of_mel = lambda: spectra.magnitude(spectra.log_mel(x, rate), rate)
    known = trained.experiment.source("test")[index]["mel"]

    def drawn(steps: int) -> np.ndarray:
        given: dict[str, Any] = {"cond": {"mel": known}, "steps": steps}
        return trained.sample(len(index), batch_size=32, **given).x[..., 0] / 32768.0

    phases = lambda n, make: lambda: spectra.griffin_lim(make(), length, iterations=n)
    return {
        **{f"diffusion, {n} steps": (lambda n=n: drawn(n)) for n in STEPS},
        **{f"Griffin-Lim {n}": phases(n, of_mel) for n in ITERATIONS},
        TRUE: phases(200, lambda: size),
        PHASES: phases(0, lambda: size),
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


def spectrograms(sounds: dict[str, np.ndarray], rate: float) -> np.ndarray:
    """Return a picture of the mel bands over time of the first sounds, a row for each maker."""
    rows = []
    for x in sounds.values():
        levels = spectra.log_mel(x[:SHOWN], rate)
        grey = np.round(255 * np.clip((levels - 0.2) / 0.7, 0, 1)).astype(np.uint8)
        rows.append(grey.transpose(0, 2, 1)[None, :, ::-1, :, None])
    return plot.strips(rows, [*sounds], [str(k + 1) for k in range(min(SHOWN, len(x)))])


def page(sounds: dict[str, np.ndarray], rate: int, folder: Path) -> str:
    """Return an HTML page that plays the first sounds of each maker and loads nothing."""
    lines = ["<!doctype html><meta charset=utf-8><title>Vocoder</title><h1>Vocoder</h1><table>"]
    for name, x in sounds.items():
        lines.append(f"<tr><th>{html.escape(name)}")
        for k, sound in enumerate(x[:SHOWN]):
            data = base64.b64encode(wav_bytes(sound[:, None], rate)).decode()
            lines.append(f"<td>{k + 1} <audio controls src=data:audio/wav;base64,{data}></audio>")
    return "\n".join([*lines, "</table>"])


def study(run: Path, out: Path, num: int) -> None:
    """Make sounds in every way and measure them; what is measured is written at once."""
    trained = load(run)
    test = trained.experiment.source("test")
    rate = dict(trained.experiment.form.units)["rate"]
    index = chosen(test[np.arange(len(test))]["x"] / 32768.0, num)
    x = test[index]["x"][..., 0] / 32768.0
    e = trained.experiment
    real = Real(e.source, e.reading, len(e.source("train")), out, EXTRACTORS["mel"])
    report: dict[str, Any] = {"step": trained.step, "sounds": len(x), "rows": {}}
    sounds = {"true": x}
    for name, make in makers(trained, index, x).items():
        began = time.process_time()
        sounds[name] = make()
        seconds = time.process_time() - began
        found = {**judged(real, x, sounds[name]), "seconds": round(seconds, 1)}
        report["rows"][name] = found
        print(name, found, flush=True)
    report["rows"]["true"] = judged(real, x, x) | {"seconds": 0.0}
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    shown = ("true", f"diffusion, {STEPS[1]} steps", f"diffusion, {STEPS[-1]} steps")
    picked = {n: sounds[n] for n in (*shown, f"Griffin-Lim {ITERATIONS[-1]}")}
    plot.save(out / "spectrograms.png", spectrograms(picked, rate))
    write_text(run / "listen.html", page(sounds, rate, run))


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
