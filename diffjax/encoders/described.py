"""A data set whose captions are conditions of its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from diffjax.data.form import Form
from diffjax.data.source import Captioned, Drawn, load
from diffjax.encoders.base import Encoder

CHOICES = 1 << 60
"""Stream of the choice of captions, to which the seed is added."""


@dataclass(frozen=True)
class Described:
    """A source with captions, and what an encoder makes of them as conditions of each item.

    Indexing encodes the preferred caption of an item; `draw` chooses another of its captions in
    each epoch. An item without captions has the empty caption. Raises ValueError for a caption that
    the encoder refuses.

    >>> from diffjax.data import Memory
    >>> from diffjax.encoders import Words
    >>> source = Memory(np.zeros((2, 2)), texts=(("dot",), ("line", "long line")))
    >>> Described(source, Words(("dot", "line", "long"), 2))[np.arange(2)]["text"].tolist()
    [[0, -1], [1, -1]]
    """

    source: Captioned
    encoder: Encoder = field(repr=False)

    def __post_init__(self):
        texts = {caption for row in self.captions(np.arange(len(self))) for caption in row}
        try:
            self.encoder.check(sorted(texts))
        except ValueError as error:
            raise ValueError(f"caption {error}") from error

    @property
    def form(self) -> Form:
        form, specs = self.source.form, self.encoder.specs
        names = tuple(spec.name for spec in specs)
        return replace(
            form,
            conditions=(*form.conditions, *specs),
            texts=names,
            vocabulary=self.encoder.vocabulary,
            encoder=self.encoder.fingerprint,
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        items = self.source[index]  # before its captions: it may replace unreadable images
        first = [captions[0] if captions else "" for captions in self.captions(index)]
        return {**items, **self.encoder(first)}

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,), each with one of its captions.

        The choice is a function of the seed and of the number (B,), the place of an item in the
        sequence of all epochs.
        """
        inner = self.source
        items = inner.draw(index, number, seed) if isinstance(inner, Drawn) else inner[index]
        return {**items, **self.encoder(chosen(self.captions(index), number, seed))}

    def kept(self) -> Described:
        """Return the source with its items in memory."""
        inner = self.source
        return replace(self, source=inner.kept() if isinstance(inner, Drawn) else load(inner))

    def labels(self) -> np.ndarray:
        return self.source.labels()

    def captions(self, index: np.ndarray) -> list[list[str]]:
        return self.source.captions(index)


def chosen(captions: Sequence[Sequence[str]], number: np.ndarray, seed: int) -> list[str]:
    """Return one of the captions of each item, by its random number (B,) of the seed.

    >>> chosen([["a dot"], [], ["a line", "a stroke"]], np.arange(3), seed=0)
    ['a dot', '', 'a line']
    """
    texts = []
    for row, k in zip(captions, np.asarray(number).tolist(), strict=True):
        rng = np.random.Generator(np.random.Philox(key=[CHOICES + seed, k]))
        texts.append(row[int(rng.integers(len(row)))] if row else "")
    return texts
