"""The interface of a data source: a length, the form of its items, and items by index."""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from diffjax.data import conditions, kinds
from diffjax.data.form import Form
from diffjax.progress import Progress
from diffjax.specs import Spec

SPLITS = ("train", "test")
BLOCK = 1024


@runtime_checkable
class Source(Protocol):
    """Items by index; reading is deterministic, and several threads may read at once.

    form: the kind and the shape of the items, and their conditions.

    >>> from diffjax import data
    >>> source = data.moons("train", size=10)
    >>> isinstance(source, Source), source[np.array([3, 7])]["x"].shape
    (True, (2, 2))
    """

    @property
    def form(self) -> Form: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,): {"x": (B, *shape)} and each condition by its name.

        "label" is int32 (B,); the other conditions are float32 (B, ...).
        """
        ...

    def labels(self) -> np.ndarray:
        """Return all labels (N,) without reading the items; 0 where items have no labels."""
        ...


@runtime_checkable
class Drawn(Protocol):
    """Interface of a source of distributions, from which each epoch of training draws anew."""

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,), drawn with these random numbers (B,) of the seed."""
        ...

    def kept(self) -> Source:
        """Return the source with all that is not drawn in memory, if that is possible."""
        ...


@runtime_checkable
class Simulated(Protocol):
    """Interface of a source whose items follow a law, given their conditions, that can be sampled.

    >>> from diffjax import data
    >>> isinstance(data.lorenz96("test", size=1000), Simulated)
    True
    """

    def ensemble(self, index: np.ndarray, members: int, seed: int = 0) -> np.ndarray:
        """Draw items (members, B, *shape) given the conditions of the items at `index` (B,)."""
        ...


@runtime_checkable
class Captioned(Source, Protocol):
    """A source whose items may have captions.

    >>> from diffjax import data
    >>> isinstance(data.moons("train", size=10), Captioned)
    True
    """

    def captions(self, index: np.ndarray) -> list[list[str]]:
        """Return the captions of the items at `index` (B,), the preferred caption first.

        Any number of captions may describe an item; an empty list stands for none.
        """
        ...


@dataclass(frozen=True)
class Memory:
    """Items in memory, or in a memory map.

    x: (N, *shape). label: (N,), in [0, classes). kind: the kind of the items, where empty that of
    `kinds.default`. cond: other conditions by name, (N, ...). units, class_names: see `Form`.
    texts: the captions of each item, or empty without any; see `captions`. specs: of other
    conditions whose kind or size their values do not state, such as labels of which more are known
    than occur. gaps: True if x may be NaN, where values are missing. Raises ValueError where the
    number of texts is not N.

    >>> Memory(np.zeros((10, 2), np.float32), np.zeros(10, np.int32), classes=2)
    Memory(10 points items of (2,) float32, classes=2)
    """

    x: np.ndarray
    label: np.ndarray | None = None
    classes: int = 0
    kind: str = ""
    cond: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: tuple[tuple[str, Any], ...] = ()
    class_names: tuple[str, ...] = ()
    texts: Sequence[Sequence[str]] = ()
    specs: tuple[Spec, ...] = ()
    gaps: bool = False

    def __post_init__(self):
        if self.texts and len(self.texts) != len(self.x):
            raise ValueError(f"texts: has {len(self.texts)} rows for {len(self.x)} items")

    def __repr__(self) -> str:
        names = f", {', '.join(self.cond)}" if self.cond else ""
        what = f"{self.form.kind} items of {self.shape} {self.dtype}"
        return f"Memory({len(self)} {what}, classes={self.classes}{names})"

    @property
    def form(self) -> Form:
        return self._form

    @functools.cached_property
    def _form(self) -> Form:
        kind = self.kind or kinds.default(self.shape, str(self.dtype))
        label = (Spec("label", "label", self.classes),) if self.classes else ()
        longest, known = self.shape[0], {spec.name: spec for spec in self.specs}
        others = (
            known.get(k) or conditions.describe(k, v, longest=longest) for k, v in self.cond.items()
        )
        return Form(
            kind,
            self.shape,
            (*label, *others),
            str(self.dtype),
            self.units,
            self.class_names,
            gaps=self.gaps,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.x.dtype

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        label = {} if self.label is None else {"label": self.label[index]}
        return {"x": self.x[index], **label, **{k: v[index] for k, v in self.cond.items()}}

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label

    def captions(self, index: np.ndarray) -> list[list[str]]:
        """Return the captions of the items at `index` (B,), as in `Captioned`.

        >>> Memory(np.zeros((2, 2)), texts=(("a dot",), ("a line", "a stroke"))).captions([1])
        [['a line', 'a stroke']]
        """
        return [[*self.texts[int(i)]] if self.texts else [] for i in index]


def load(source: Source, index: np.ndarray | None = None) -> Memory:
    """Read the items at `index`, by default all, with their captions into memory.

    >>> from diffjax import data
    >>> load(data.moons("train", size=100), np.array([3, 7]))
    Memory(2 points items of (2,) float32, classes=2)
    """
    if index is None and isinstance(source, Memory):
        return source
    index, form = np.arange(len(source)) if index is None else index, source.form
    kept: dict[str, np.ndarray] = {"x": np.empty((len(index), *form.shape), form.dtype)}
    with Progress("read data", len(index), "item") as progress:
        for start in range(0, len(index), BLOCK):
            items = source[index[start : start + BLOCK]]
            count = len(items["x"])
            for name, value in items.items():
                if name not in kept:
                    kept[name] = np.empty((len(index), *value.shape[1:]), value.dtype)
                kept[name][start : start + count] = value
            progress.advance(count)
    x, label = kept.pop("x"), kept.pop("label", None)
    texts = source.captions(index) if isinstance(source, Captioned) else []
    return Memory(
        x,
        label,
        form.classes,
        form.kind,
        kept,
        form.units,
        form.class_names,
        texts if any(texts) else (),
        form.conditions,
        form.gaps,
    )


def fingerprint(source: Source) -> dict[str, int | str]:
    """Return a cheap fingerprint, by which a resumed run notices another data set.

    It holds the size, the dtype, and the crc32 of the first, the middle and the last item. A change
    of other items goes unnoticed.
    """
    items = source[np.array(sorted({0, len(source) // 2, len(source) - 1}))]
    crc = 0
    for name in sorted(items):
        crc = zlib.crc32(np.ascontiguousarray(items[name]).tobytes(), crc)
    return {"items": len(source), "dtype": source.form.dtype, "crc32": f"{crc:08x}"}


def tell_untaught(place: str, label: Sequence[int] | np.ndarray, names: Sequence[str]) -> None:
    """Print one line on stderr that lists the classes without a training item, if there are any.

    label: the labels of the training items. names: the names of all classes for which the network
    is built.
    """
    counts = np.bincount(np.asarray(label, np.int64), minlength=len(names))
    if none := [name for name, count in zip(names, counts, strict=True) if not count]:
        more = f" and {len(none) - 5} more" * (len(none) > 5)
        print(
            f"{place}: no training items of class {', '.join(none[:5])}{more}, so the network does "
            f"not learn to generate them",
            file=sys.stderr,
        )


class NoSplit(ValueError):
    """The error that a data set has no items in a split."""


def check_split(split: str, name: str) -> None:
    """Raise ValueError for a name that is not a split."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: unknown split of {name}; known: {', '.join(SPLITS)}")


def part(names: Sequence[str], split: str, holdout: float) -> list[int]:
    """Return the indices of the items in a split.

    An item is held out with probability `holdout`, as a function of the crc32 of its name alone, so
    the splits stay disjoint when items are added. Raises ValueError for holdout outside [0, 1), and
    NoSplit, a ValueError, for an empty split.
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout={holdout}: needs 0 <= holdout < 1")
    test = [zlib.crc32(os.fsencode(name)) < holdout * 2**32 for name in names]
    chosen = [i for i, held in enumerate(test) if held == (split == "test")]
    if not chosen:
        raise NoSplit(f"holdout={holdout}: puts none of {len(names)} items into split {split!r}")
    return chosen
