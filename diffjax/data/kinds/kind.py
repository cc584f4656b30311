"""What the items of a data set are, and all that follows from it, as one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.images import to_float
from diffjax.data.kinds import drawing

Units = Mapping[str, Any]
"""What numbers mean that the kind alone does not say, as `rate`, samples per second."""
NO_UNITS: Units = {}


def as_they_are(x: np.ndarray, dtype: str) -> np.ndarray:
    """Float items need no way back: nothing is clipped."""
    return np.asarray(x, np.float32)


def flat(x: np.ndarray) -> np.ndarray:
    """The values of stored items, (N, D)."""
    return x.reshape(len(x), -1)


@dataclass(frozen=True)
class Files:
    """A form of file that items are written to and read from.

    ending: with the dot. write: `(path, items or item, units)`. read: `(path, shape of an item,
    units)`, the inverse. each: whether a file holds one item, so that several of them make a
    folder.
    """

    ending: str
    write: Callable[[Path, np.ndarray, Units], None]
    read: Callable[[Path, tuple[int, ...], Units], np.ndarray]
    each: bool = True


@dataclass(frozen=True)
class Kind:
    """What items are: their form, their way to the network and back, pictures, files, changes.

    axes: of an item, as messages show them. ranks: how many axes it may have. channels: allowed
    sizes of the last axis; any where there are none. dtypes: allowed stored types. bound: the
    largest allowed |value| of floats, None for any. normalise: stored values (B, ...) to floats of
    the network's range, on the device. denormalise: `(x, dtype)`, samples of the network to stored
    values. tiles: stored items (N, ...) to uint8 pictures (N, h, w, 1 or 3). together: one picture
    of all items in place of tiles, `(x, label, units, class_names)`. few: items (D,) of 2 to so
    many values are shown as a matrix of pairs in place of tiles. files: the first with `each` is
    that of a folder. window: axes, counted from the last, along which items may be cropped.
    mirror: the axis along which they may be flipped. lengths: whether items may end at different
    positions of their first axis; NaN stands beyond the end. augment: whether geometric changes of
    images apply. values: stored items to the (N, D) that distances without a feature network
    compare. features: the default feature network of `evaluate`. noun: of an item, in messages.
    unit: scale and name of an error of the network's output. caption: `(x, units)`, a line of text
    below the tiles, as the range that they show.
    """

    name: str
    axes: str
    ranks: tuple[int, ...]
    tiles: Callable[[np.ndarray], np.ndarray]
    files: tuple[Files, ...] = ()
    channels: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    bound: float | None = None
    normalise: Callable[[Any], Any] = to_float
    denormalise: Callable[[np.ndarray, str], np.ndarray] = as_they_are
    together: Callable[[np.ndarray, np.ndarray | None, Units, Sequence[str]], np.ndarray] | None = (
        None
    )
    few: int = 0
    window: tuple[int, ...] = ()
    mirror: int | None = None
    lengths: bool = False
    augment: bool = False
    values: Callable[[np.ndarray], np.ndarray] = flat
    features: str = "pixels"
    noun: str = "item"
    unit: tuple[float, str] = (1.0, "units of the data")
    caption: Callable[[np.ndarray, Units], str] | None = None

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        """Raise ValueError for items that are not of this kind."""
        if len(shape) not in self.ranks or (self.channels and shape[-1] not in self.channels):
            sizes = " or ".join(map(str, self.channels))
            with_sizes = f" with a last axis of {sizes}" if sizes else ""
            raise ValueError(f"kind={self.name!r}: items {shape}; needs {self.axes}{with_sizes}")
        if dtype not in self.dtypes:
            allowed = " or ".join(self.dtypes)
            raise ValueError(f"kind={self.name!r}: items of {dtype}; needs {allowed}")

    def check_values(self, x: np.ndarray) -> None:
        """Raise ValueError for floats that are not finite, or beyond the bound."""
        if not np.issubdtype(x.dtype, np.floating) or not x.size:
            return
        most = float(np.abs(x).max())
        if not np.isfinite(most) or (self.bound is not None and most > self.bound):
            within = "" if self.bound is None else f" in [-{self.bound:g}, {self.bound:g}]"
            other = "; other kinds, as kind='latent', have no bound" if within else ""
            raise ValueError(f"values up to {most:g}; needs finite {self.noun}s{within}{other}")

    def range(self, dtype: str) -> tuple[float, float] | None:
        """Least and largest stored value; None where floats are not bounded."""
        if np.issubdtype(np.dtype(dtype), np.integer):
            info = np.iinfo(dtype)
            return float(info.min), float(info.max)
        return None if self.bound is None else (-self.bound, self.bound)

    def picture(
        self,
        x: np.ndarray,
        label: np.ndarray | None = None,
        units: Units = NO_UNITS,
        class_names: Sequence[str] = (),
    ) -> np.ndarray:
        """Stored items (N, ...) as one picture uint8 (H, W, 3).

        Items whose labels come in turn stand in one column per class, which has its name above it
        where classes have names.
        """
        if self.together:
            return self.together(x, label, units, class_names)
        if 2 <= x.shape[-1] <= self.few:
            return drawing.pairs(drawing.numbered(x), label, class_names)
        columns = drawing.columns(label, len(x))
        named = columns and class_names and label is not None
        shown = label[:columns].tolist() if named and label is not None else ()
        titles = [str(class_names[k]) if k >= 0 else "none" for k in shown]
        picture = drawing.grid(self.tiles(x), columns, titles=titles)
        text = self.caption(x, units) if self.caption else ""
        return drawing.captioned(picture, text) if text else picture

    def folder(self) -> Files | None:
        """The form of the files in a folder of items, None where there is none."""
        return next((f for f in self.files if f.each), None)

    def whole(self) -> dict[str, Files]:
        """The forms of file that hold all items, by ending."""
        return {f.ending: f for f in self.files if not f.each}
