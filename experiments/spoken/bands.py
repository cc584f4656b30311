"""Turn the spoken digits into pictures of their mel bands, and pictures into sounds.

    python -m experiments.spoken.bands --path=data/spoken --out=data/spoken_bands.npz

A picture is that of the classifier of sounds: the levels of 40 mel bands in 64 frames, as grey
levels over a range of 80 dB. Griffin-Lim makes a sound of a picture; it needs no training. The file
holds x_train, y_train, x_test and y_test, for the source `array`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from diffjax import cli
from diffjax.data import spectra
from diffjax.data.kinds import audio
from diffjax.data.kinds.storing import to_int16
from diffjax.data.sounds import sounds
from diffjax.files import write_arrays
from experiments.spoken.speak import LENGTH, RATE

ITERATIONS, PART = 100, 100
"""Iterations of Griffin-Lim, and sounds that are converted at once."""


def pictures(x: np.ndarray) -> np.ndarray:
    """Return the mel bands of int16 sounds (N, 4096, 1) as uint8 pictures (N, 64, 40, 1).

    The last of 65 frames, centred at the end of the sound, is left out.
    """
    parts = np.split(x, range(PART, len(x), PART))
    return np.concatenate([audio.pictures(part, {"rate": RATE})[:, :-1] for part in parts])


def heard(seen: np.ndarray, iterations: int = ITERATIONS) -> np.ndarray:
    """Return int16 sounds (N, 4096, 1) that have about these pictures (N, 64, 40, 1) of mel bands.

    Bands at the lower end of the range are silent.

    >>> heard(np.zeros((1, 64, 40, 1), np.uint8), 1).any()
    np.False_
    """
    parts = np.split(seen, range(PART, len(seen), PART))
    return np.concatenate([_heard(part, iterations) for part in parts])


def _heard(seen: np.ndarray, iterations: int) -> np.ndarray:
    grey = np.pad(seen[..., 0].astype(np.float64), ((0, 0), (0, 1), (0, 0))) / 255
    levels = np.where(grey > 0, 1 - audio.DECIBELS / 100 * (1 - grey), 0)
    size = spectra.magnitude(levels, RATE)
    size *= size > 2 * spectra.FLOOR  # least squares of silence is not silent
    return to_int16(spectra.griffin_lim(size, LENGTH, iterations=iterations)[..., None])


def main() -> int:
    """Write the file of pictures, print how many there are, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--path", type=cli.path, required=True, help="the folder of spoken digits")
    flags.add_argument("--out", type=Path, required=True, help="the .npz file of pictures")
    asked = flags.parse_args()
    arrays = {}
    for split in ("train", "test"):
        source = sounds(split, str(asked.path), length=LENGTH, classes=True)
        arrays[f"x_{split}"] = pictures(source[np.arange(len(source))]["x"])
        arrays[f"y_{split}"] = source.labels()
    write_arrays(asked.out, arrays)
    print({name: value.shape for name, value in arrays.items()})
    return 0


if __name__ == "__main__":
    cli.main(main)
