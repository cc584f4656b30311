"""Imputation: items with a part of their values hidden as the condition, drawn anew each epoch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from diffjax.checks import one_of
from diffjax.data.form import ABSENT, KNOWN, Form
from diffjax.data.kinds.table import described
from diffjax.data.source import Captioned, Drawn, Source, load
from diffjax.specs import Spec

WAYS = ("values", "positions", "channels", "end")
DRAWS, FIXED = 1 << 55, 1 << 54
"""Streams of hidden parts in training, to which the seed is added, and of other readings."""


@dataclass(frozen=True)
class Hidden:
    """The condition of imputation: the item itself, with NaN where a value is hidden.

    The network learns x given `known`, (*grid, C), which it receives as values and a mask of those
    present, as CSDI does (arXiv:2107.03502). It then imputes any missing part of an item, and
    forecasts, where the end is missing. The loss is over the hidden values, divided by their
    number.

    Where the data have gaps, values that are NaN, nothing is known of what is hidden there. In
    training the network receives the condition `absent`, (*grid, C), 1 for a gap and NaN elsewhere,
    and gaps have no loss. In sampling nothing is absent, and all that is not known is drawn
    together.

    share: the least and the largest share of an item that is hidden, of which each item draws
    uniformly. way: what is hidden together: `values`, each by itself; `positions`, all channels of
    a position; `channels`, whole channels; `end`, all beyond a place along the first axis. The
    values of a category in a table are one value here. Raises ValueError for shares outside of
    [0, 1] or in the wrong order, and for another way.

    >>> rng = np.random.default_rng(0)
    >>> Hidden(share=(0.5, 0.5), way="end").mask(rng, (4, 1))[:, 0].tolist()
    [False, False, True, True]
    """

    share: tuple[float, float] = (0.1, 0.9)
    way: str = "values"

    def __post_init__(self):
        one_of(WAYS, way=self.way)
        if len(self.share) != 2 or not 0 <= self.share[0] <= self.share[1] <= 1:
            raise ValueError(f"share={self.share}: needs 0 <= least <= largest <= 1")

    def mask(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Bool[np.ndarray, "*d"]:
        """Return which values of an item of this shape are hidden.

        Exactly the share, rounded to whole parts, is hidden.
        """
        share = rng.uniform(*self.share)
        parts = {
            "values": shape,
            "positions": (*shape[:-1], 1),
            "channels": (1,) * (len(shape) - 1) + shape[-1:],
            "end": shape[:1] + (1,) * (len(shape) - 1),
        }[self.way]
        size = int(np.prod(parts))
        hidden = np.arange(size) >= size - round(share * size)
        hidden = hidden if self.way == "end" else rng.permutation(hidden)
        return np.broadcast_to(hidden.reshape(parts), shape)

    def form(self, form: Form) -> Form:
        """Return the form with the condition added.

        Raises ValueError for items that are not floats, that have lengths, or these conditions.
        """
        if form.dtype != "float32":
            raise ValueError(f"the {form.items.noun}s are {form.dtype}; needs float32")
        form.refuse_lengths("hidden")
        names = (KNOWN, ABSENT) if form.gaps else (KNOWN,)
        if taken := [name for name in names if name in form.names]:
            raise ValueError(f"the data have a condition {taken[0]!r} already")
        more = (Spec(name, "map", form.shape[-1]) for name in names)
        return replace(form, conditions=(*form.conditions, *more))

    def drawn(
        self, x: np.ndarray, number: np.ndarray, stream: int, column: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the condition `known` of items x (B, ...), with random numbers of a stream.

        number: (B,); what is hidden of an item is a function of its number in the stream. column:
        the columns (D,) of the values of a row, which are hidden as one, or None.
        """
        known = np.array(x, np.float32)
        shape = x.shape[1:] if column is None else (int(column[-1]) + 1,)
        for row, k in zip(known, np.asarray(number).tolist(), strict=True):
            rng = np.random.Generator(np.random.Philox(key=[stream, k]))
            mask = self.mask(rng, shape)
            row[mask if column is None else mask[column]] = np.nan
        return known


@dataclass(frozen=True)
class Concealed:
    """A source whose items have the condition of `Hidden`.

    Indexing hides what belongs to the index; `draw` hides other parts in each epoch.

    >>> from diffjax import data
    >>> source = Concealed(data.lorenz96("test", size=1000), Hidden(share=(0.25, 0.25)))
    >>> np.isnan(source[np.arange(3)]["known"]).mean()
    np.float64(0.25)
    """

    source: Source
    hidden: Hidden

    def __post_init__(self):
        self.form  # noqa: B018  # refuses items that cannot be hidden

    @property
    def form(self) -> Form:
        return self.hidden.form(self.source.form)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._concealed(self.source[index], np.asarray(index), FIXED)

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,), with parts hidden by these numbers (B,) of the seed."""
        inner = self.source
        items = inner.draw(index, number, seed) if isinstance(inner, Drawn) else inner[index]
        return self._concealed(items, number, DRAWS + seed)

    def _concealed(
        self, items: Mapping[str, np.ndarray], number: np.ndarray, stream: int
    ) -> dict[str, np.ndarray]:
        x = items["x"]
        given = {KNOWN: self.hidden.drawn(x, number, stream, self.column)}
        if self.form.gaps:
            given[ABSENT] = np.full(x.shape, np.nan, np.float32)
        return {**items, **given}

    @functools.cached_property
    def column(self) -> np.ndarray | None:
        """The columns (D,) of the values of a row of a table, None for other items."""
        form = self.source.form
        if form.kind != "table":
            return None
        sizes = [
            len(c.get("levels", [0])) for c in described(dict(form.units), form.shape[0]).values()
        ]
        return np.repeat(np.arange(len(sizes)), sizes)

    def kept(self) -> Concealed:
        """Return the source with its items in memory."""
        inner = self.source
        return replace(self, source=inner.kept() if isinstance(inner, Drawn) else load(inner))

    def labels(self) -> np.ndarray:
        return self.source.labels()

    def captions(self, index: np.ndarray) -> list[list[str]]:
        """Return the captions of the items at `index` (B,), [] for items without any."""
        inner = self.source
        return inner.captions(index) if isinstance(inner, Captioned) else [[] for _ in index]
