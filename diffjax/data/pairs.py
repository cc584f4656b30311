"""Sources of pairs in memory: items, and earlier ones as their condition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffjax.data.form import Form
from diffjax.data.source import Memory


@dataclass(frozen=True)
class Pairs:
    """A source with the items of `pairs`, to which a class adds what it knows of them.

    >>> source = Pairs(Memory(np.zeros((3, 4, 1), np.float32), cond={"map": np.ones((3, 4, 1))}))
    >>> len(source), sorted(source[np.array([0])])
    (3, ['map', 'x'])
    """

    pairs: Memory

    @property
    def form(self) -> Form:
        return self.pairs.form

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self.pairs[index]

    def labels(self) -> np.ndarray:
        return self.pairs.labels()
