"""Make the spoken digits of this study: ten English words by many synthetic voices, as WAV files.

    python -m experiments.spoken.speak --out=data/spoken

The program eSpeak NG speaks the words zero to nine with each of its voice variants, at three
pitches and two speeds. A file holds 0.512 s at 8 kHz in 16 bits: the word without the silence
around it stands in the middle, and its largest value is half of the largest possible one; words
that last longer are compressed by a higher speed. Each ninth voice is held out, so that folders
test/WORD hold voices that folders train/WORD do not have. eSpeak NG draws random numbers, so two
calls make files that differ slightly; make the files once and keep them.

eSpeak NG is licensed under GPL-3 and is no part of diffjax. `pip install espeakng-loader` installs
it with its voices, and so does Debian's package espeak-ng.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib
import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from diffjax import cli
from diffjax.progress import Progress

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PITCHES, SPEEDS = (35, 50, 65), (175, 210)
"""Pitches from 0 to 100, and speeds in words per minute, of eSpeak NG."""
RATE, LENGTH, PEAK = 8000, 4096, 0.5
EVERY = 9
"""One voice of this many is held out."""
FASTER, FASTEST = 1.15, 450
"""Factor by which the speed grows while a word is too long, and the largest speed."""
MISSING = (
    "speak: found no eSpeak NG; install one of: `pip install espeakng-loader`, or "
    "`apt-get install espeak-ng`"
)
Speak = Callable[..., np.ndarray]
"""(word, voice, pitch, speed) -> samples (n,) in [-1, 1] at RATE."""


def split(voices: Sequence[str]) -> dict[str, list[str]]:
    """Return the voices of each split: each ninth one, in alphabetical order, is held out.

    >>> {k: len(v) for k, v in split([f"voice {k:03d}" for k in range(101)]).items()}
    {'train': 90, 'test': 11}
    """
    ordered = sorted(voices, key=lambda name: (name.lower(), name))
    test = ordered[EVERY - 1 :: EVERY]
    return {"train": [name for name in ordered if name not in test], "test": test}


def trimmed(x: np.ndarray, share: float = 0.01) -> np.ndarray:
    """Return the sound x (n,) without the parts at both ends below a share of its largest value.

    >>> trimmed(np.array([0.0, 0.0, 1.0, 0.0, -0.5, 0.001])).tolist()
    [1.0, 0.0, -0.5]
    """
    loud = np.flatnonzero(np.abs(x) > share * np.abs(x).max(initial=0.0))
    return x[loud[0] : loud[-1] + 1] if len(loud) else x[:0]


def placed(x: np.ndarray, length: int = LENGTH, peak: float = PEAK) -> np.ndarray:
    """Return int16 samples (length,) with the sound x (n,) in their middle.

    The largest value is `peak`, where 1 is the largest possible. Raises ValueError for a sound that
    is longer, and for silence.

    >>> placed(np.array([0.5, -1.0]), 6, 0.5).tolist()
    [0, 0, 8192, -16384, 0, 0]
    """
    if not 0 < len(x) <= length or not x.any():
        raise ValueError(f"a sound of {len(x)} samples: needs 1 to {length}, and not all zero")
    levels = np.round(x * (32768 * peak / np.abs(x).max())).astype(np.int16)
    before = (length - len(x)) // 2
    return np.pad(levels, (before, length - len(x) - before))


def fitting(speak: Speak, word: str, voice: str, pitch: int, speed: float) -> np.ndarray:
    """Return a word as int16 samples (LENGTH,), spoken faster until it fits."""
    while True:
        x = trimmed(speak(word, voice, pitch, round(speed)))
        if len(x) <= LENGTH:
            return placed(x)
        if speed >= FASTEST:
            raise ValueError(
                f"{word} by the voice {voice} has {len(x)} samples even at {speed:.0f} words per "
                f"minute; needs at most {LENGTH}"
            )
        speed = min(FASTER * speed, FASTEST)


class Espeak:
    """eSpeak NG as a library: `voices`, and a call that speaks a word.

    Raises OSError where it is not installed, with what installs it.
    """

    def __init__(self) -> None:
        library, data = _found()
        self.library, self.parts = ctypes.CDLL(library), []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self.callback = kind(self._take)  # kept, because the library calls it later
        synchronous = 2
        path = data.encode() if data else None
        self.rate = self.library.espeak_Initialize(synchronous, 0, path, 0)
        if self.rate <= 0:
            raise OSError(
                f"speak: eSpeak NG does not start with the data {data or 'of the system'}"
            )
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_Info.restype = ctypes.c_char_p
        there = ctypes.c_char_p()
        self.library.espeak_Info(ctypes.byref(there))
        folder = Path((there.value or b"").decode()) / "voices" / "!v"
        self.voices = sorted(file.name for file in folder.iterdir() if file.is_file())

    def _take(self, samples: ctypes._Pointer, count: int, events: object) -> int:
        if samples and count:
            self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def __call__(self, word: str, voice: str, pitch: int, speed: int) -> np.ndarray:
        """Return the word as samples (n,) in [-1, 1] at RATE; ValueError for an unknown voice."""
        speeds, pitches, characters, text = 1, 3, 1, word.encode()
        if voice not in self.voices:  # eSpeak NG would take its default voice
            raise ValueError(f"voice={voice!r}: unknown to eSpeak NG; known: {self.voices}")
        self.library.espeak_SetVoiceByName(f"en+{voice}".encode())
        self.library.espeak_SetParameter(speeds, speed, 0)
        self.library.espeak_SetParameter(pitches, pitch, 0)
        self.parts.clear()
        self.library.espeak_Synth(text, len(text) + 1, 0, characters, 0, 1, None, None)
        self.library.espeak_Synchronize()
        ratio = Fraction(RATE, self.rate)
        x = np.concatenate([*self.parts, np.zeros(0, np.int16)]) / 32768.0
        return resample_poly(x, ratio.numerator, ratio.denominator) if len(x) else x


def _found() -> tuple[str, str]:
    """Return the paths of the library and of its data, "" for the default ones."""
    try:
        loader = importlib.import_module("espeakng_loader")
    except ImportError:
        if library := ctypes.util.find_library("espeak-ng"):
            return library, ""
        raise OSError(MISSING) from None
    return loader.get_library_path(), loader.get_data_path()


def write(path: Path, x: np.ndarray) -> None:
    """Write int16 samples (n,) at RATE as a WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(x), "NONE", ""))
        file.writeframes(x.astype("<i2").tobytes())


def make(speak: Speak, voices: Sequence[str], out: Path) -> dict[str, int]:
    """Write all words by these voices, and return the number of files in each split."""
    counts = {}
    for part, names in split(voices).items():
        every = [(w, v, p, s) for v in names for w in WORDS for p in PITCHES for s in SPEEDS]
        with Progress(f"speak {part}", len(every), "file") as progress:
            for word, voice, pitch, speed in every:
                name = f"{voice.replace(' ', '_')}_{pitch}_{speed}.wav"
                write(out / part / word / name, fitting(speak, word, voice, pitch, speed))
                progress.advance(1)
        counts[part] = len(every)
    return counts


def main() -> int:
    """Make the files, print how many there are, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, required=True, help="folder of the WAV files")
    asked = flags.parse_args()
    if asked.out.exists() and any(asked.out.iterdir()):
        flags.error(f"--out={asked.out}: is not empty; needs a new folder")
    try:
        espeak = Espeak()
    except OSError as error:
        flags.error(str(error))
    print(make(espeak, espeak.voices, asked.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
