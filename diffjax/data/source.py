"""What every data source is: a length, the form of its items, and items by index."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from diffjax.progress import Progress

SPLITS = ("train", "test")
BLOCK = 1024


@runtime_checkable
class Source(Protocol):
    """Items by index, the same each time; several threads may read at once.

    shape: of one item, (H, W, C) for images and (D,) for points. dtype: uint8 images, else float32.
    classes: number of labels, 0 where there are none.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def classes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Items at `index` (B,): {"x": (B, *shape)}, with "label": (B,) int32 if there are any."""
        ...

    def labels(self) -> np.ndarray:
        """All labels (N,), without the rest of the items; all 0 where there are none."""
        ...


@dataclass(frozen=True)
class Memory:
    """Items in memory, or in a memory map: x (N, *shape) and label (N,) in [0, classes)."""

    x: np.ndarray
    label: np.ndarray | None = None
    classes: int = 0

    def __repr__(self) -> str:
        return f"Memory({len(self)} items of {self.shape} {self.dtype}, classes={self.classes})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.x.dtype

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        items = {"x": self.x[index]}
        return items if self.label is None else items | {"label": self.label[index]}

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label


def load(source: Source, index: np.ndarray | None = None) -> Memory:
    """The items at `index` (all where it is None), read once and kept."""
    if index is None and isinstance(source, Memory):
        return source
    index = np.arange(len(source)) if index is None else index
    x = np.empty((len(index), *source.shape), source.dtype)
    label = np.empty(len(index), np.int32) if source.classes else None
    with Progress("read data", len(index), "item") as progress:
        for start in range(0, len(index), BLOCK):
            items = source[index[start : start + BLOCK]]
            part = slice(start, start + len(items["x"]))
            x[part] = items["x"]
            if label is not None:
                label[part] = items["label"]
            progress.advance(len(items["x"]))
    return Memory(x, label, source.classes)


def fingerprint(source: Source) -> dict[str, int | str]:
    """By which another data set is noticed, cheaply: size, dtype, and crc32 of the first item, the
    middle one and the last. What changed between them is not seen."""
    items = source[np.array(sorted({0, len(source) // 2, len(source) - 1}))]
    crc = 0
    for name in sorted(items):
        crc = zlib.crc32(np.ascontiguousarray(items[name]).tobytes(), crc)
    return {"items": len(source), "dtype": str(source.dtype), "crc32": f"{crc:08x}"}


class NoSplit(ValueError):
    """A data set has no items in a split."""


def check_split(split: str, name: str) -> None:
    """Raise ValueError for a split that is none."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} of {name}: known: {', '.join(SPLITS)}")


def part(names: Sequence[str], split: str, holdout: float) -> list[int]:
    """Indices of the items in a split. An item is held out for its name alone (crc32), with chance
    `holdout`, so that the splits stay disjoint when items are added. Raises ValueError if empty.
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout={holdout}: needs 0 <= holdout < 1")
    test = [zlib.crc32(name.encode()) < holdout * 2**32 for name in names]
    found = [i for i, held in enumerate(test) if held == (split == "test")]
    if not found:
        raise NoSplit(f"none of {len(names)} items is in split {split!r}: holdout={holdout}")
    return found
