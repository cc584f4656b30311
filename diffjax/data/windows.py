"""Windows of recordings of any length, which each epoch cuts anew: sounds and clips."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from diffjax.data.form import Form

STARTS = 1 << 59
"""Stream of the places of windows, to which the seed is added."""


@dataclass(frozen=True)
class Windows:
    """Windows of recordings, of the length that the form states.

    x: all recordings one after the other, (N, ...). begins: the first position of each recording,
    and N. form: that of a window. label: of each recording, in [0, classes), None without any.
    still: 1 for recordings of unrelated images, else 0, None without any. A recording of n
    positions counts as max(1, n // length) items, whose windows lie side by side; `draw` cuts them
    anywhere. A shorter recording ends in zeros.

    >>> x, form = np.arange(10, dtype=np.int16)[:, None], Form("audio", (3, 1), (), "int16")
    >>> source = Windows(x, np.array([0, 7, 10]), form)
    >>> len(source), source[np.array([0, 1, 2])]["x"][..., 0].tolist()
    (3, [[0, 1, 2], [3, 4, 5], [7, 8, 9]])
    """

    x: np.ndarray
    begins: np.ndarray
    form: Form
    label: np.ndarray | None = None
    still: np.ndarray | None = None

    @property
    def length(self) -> int:
        return self.form.shape[0]

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        """The number of items of each recording."""
        return np.maximum(np.diff(self.begins) // self.length, 1)

    @functools.cached_property
    def _owner(self) -> np.ndarray:
        """The recording of each item."""
        return np.repeat(np.arange(len(self.begins) - 1), self._counts)

    def __len__(self) -> int:
        return int(self._counts.sum())

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        first = np.concatenate([[0], np.cumsum(self._counts)])
        owner = self._owner[index]
        return self._items(owner, (np.asarray(index) - first[owner]) * self.length)

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return windows of the recordings of the items at `index` (B,), each at its own place.

        The place is a function of the seed and of the number (B,), the place of an item in the
        sequence of all epochs.
        """
        owner, places = self._owner[index], []
        spare = np.maximum(np.diff(self.begins)[owner] - self.length, 0)
        for most, k in zip(spare.tolist(), np.asarray(number).tolist(), strict=True):
            rng = np.random.Generator(np.random.Philox(key=[STARTS + seed, k]))
            places.append(int(rng.integers(most + 1)))
        return self._items(owner, np.array(places))

    def kept(self) -> Windows:
        """Return the source itself, which is in memory."""
        return self

    def _items(self, owner: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        """Return the windows of these recordings (B,) from these positions (B,) on."""
        x = np.zeros((len(owner), *self.form.shape), self.x.dtype)
        for row, begin, end in zip(
            x, self.begins[owner] + place, self.begins[owner + 1], strict=True
        ):
            there = self.x[begin : min(begin + self.length, end)]
            row[: len(there)] = there
        marks = {"label": self.label, "still": self.still}
        return {"x": x} | {name: of[owner] for name, of in marks.items() if of is not None}

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label[self._owner]
