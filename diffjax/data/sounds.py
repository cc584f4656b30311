"""The source `sounds:<path>`: WAV files of any length, of which each epoch cuts new windows."""

from __future__ import annotations

import functools
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffjax.data.form import Form
from diffjax.data.layout import files_of
from diffjax.data.walk import shown
from diffjax.specs import Spec

STARTS = 1 << 59
"""Stream of the places of windows, to which the seed is added."""


@dataclass(frozen=True)
class Sounds:
    """Windows of `length` samples of sounds, int16 with one or more channels.

    x: all sounds one after the other, (N, channels). begins: the first sample of each sound, and N.
    length: samples of an item; a shorter sound ends in silence. rate: samples per second. label:
    of each sound, in [0, classes), None without any. A sound of n samples counts as
    max(1, n // length) items, whose windows lie side by side; `draw` cuts them anywhere.

    >>> x = np.arange(10, dtype=np.int16)[:, None]
    >>> source = Sounds(x, np.array([0, 7, 10]), length=3, rate=8000)
    >>> len(source), source[np.array([0, 1, 2])]["x"][..., 0].tolist()
    (3, [[0, 1, 2], [3, 4, 5], [7, 8, 9]])
    """

    x: np.ndarray
    begins: np.ndarray
    length: int
    rate: int
    label: np.ndarray | None = None
    class_names: tuple[str, ...] = ()

    @property
    def form(self) -> Form:
        classes = len(self.class_names)
        label = (Spec("label", "label", classes),) if classes else ()
        shape, units = (self.length, self.x.shape[1]), (("rate", self.rate),)
        return Form("audio", shape, label, "int16", units, self.class_names)

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        """The number of items of each sound."""
        return np.maximum(np.diff(self.begins) // self.length, 1)

    @functools.cached_property
    def _owner(self) -> np.ndarray:
        """The sound of each item."""
        return np.repeat(np.arange(len(self.begins) - 1), self._counts)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        first = np.concatenate([[0], np.cumsum(self._counts)])
        owner = self._owner[index]
        return self._items(owner, (np.asarray(index) - first[owner]) * self.length)

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return windows of the sounds of the items at `index` (B,), each at a place of its own.

        The place is a function of the seed and of the number (B,), the place of an item in the
        sequence of all epochs.
        """
        owner, places = self._owner[index], []
        spare = np.maximum(np.diff(self.begins)[owner] - self.length, 0)
        for most, k in zip(spare.tolist(), np.asarray(number).tolist(), strict=True):
            rng = np.random.Generator(np.random.Philox(key=[STARTS + seed, k]))
            places.append(int(rng.integers(most + 1)))
        return self._items(owner, np.array(places))

    def kept(self) -> Sounds:
        """Return the source itself, which is in memory."""
        return self

    def _items(self, owner: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        """Return the windows of these sounds (B,) from these samples (B,) on."""
        x = np.zeros((len(owner), self.length, self.x.shape[1]), np.int16)
        for row, begin, end in zip(
            x, self.begins[owner] + place, self.begins[owner + 1], strict=True
        ):
            there = self.x[begin : min(begin + self.length, end)]
            row[: len(there)] = there
        return {"x": x} if self.label is None else {"x": x, "label": self.label[owner]}

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label[self._owner]


def sounds(
    split: str, path: str = "", length: int = 4096, holdout: float = 0.1, classes: bool = False
) -> Sounds:
    """Read the WAV files of 16 bits under `path`, all of one rate and one number of channels.

    Folders `train` and `test` in `path` are the splits; otherwise the share `holdout` of the files
    is held out, by file name. length: samples of an item, cut anew from the sounds in each epoch.
    classes: whether the folders, in alphabetical order, are the classes. Raises ValueError for a
    folder without such files, and for a file of another form, rate or number of channels, by name.

    >>> sounds("train", "nowhere")
    Traceback (most recent call last):
    ValueError: path='nowhere': no such folder; the form is name=sounds:PATH
    """
    if length < 1:
        raise ValueError(f"length={length}: needs length >= 1")
    chosen = files_of(
        "sounds", path, (".wav",), split, holdout=holdout, classes=classes, noun="sound"
    )
    x, rate = _read(chosen.paths)
    begins = np.concatenate([[0], np.cumsum([len(sound) for sound in x])])
    return Sounds(np.concatenate(x), begins, length, rate, chosen.label, chosen.class_names)


def _read(files: Sequence[Path]) -> tuple[list[np.ndarray], int]:
    """Return the samples (n, channels) of each file, and the rate that all of them have."""
    found, forms = [], {}
    for path in files:
        try:
            with wave.open(str(path), "rb") as file:
                form = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
                frames = file.readframes(file.getnframes())
        except (wave.Error, EOFError, OSError) as error:
            raise ValueError(f"{shown(path)}: is no WAV file that can be read ({error})") from error
        if form[2] != 16:
            raise ValueError(f"{shown(path)}: has {form[2]} bits; needs 16")
        forms.setdefault(form, path)
        if len(forms) > 1:
            (one, first), (other, second) = forms.items()
            raise ValueError(
                f"{shown(second)}: has {other[0]} samples per second and {other[1]} channels; "
                f"{shown(first)} has {one[0]} and {one[1]}; needs equal ones"
            )
        found.append(np.frombuffer(frames, "<i2").reshape(-1, form[1]).astype(np.int16))
    return found, next(iter(forms))[0]
