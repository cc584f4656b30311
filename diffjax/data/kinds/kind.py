"""The kind of the items of a data set, as a frozen object that holds everything it implies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.images import to_float
from diffjax.data.kinds import drawing, figures
from diffjax.spaces import PLAIN, Space

Units = Mapping[str, Any]
"""The meaning of the numbers beyond the kind, such as `rate`, the samples per second."""
NO_UNITS: Units = {}
Texts = Mapping[str, str]


def as_they_are(x: np.ndarray, dtype: str) -> np.ndarray:
    """Return floats as float32, neither scaled nor clipped: the default `denormalise`."""
    return np.asarray(x, np.float32)


def alone(x: np.ndarray, cond: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return stored items without their conditions: the default `joined`."""
    return x


def unchanged(x: np.ndarray, units: Units) -> np.ndarray:
    """Return stored items as they are: the default `seen`."""
    return x


def flat(x: np.ndarray) -> np.ndarray:
    """Return the values of stored items as (N, D)."""
    return x.reshape(len(x), -1)


@dataclass(frozen=True)
class Files:
    """A file format to which items are written and from which they are read.

    ending: the suffix with its dot. write: `(path, items or item, units, texts)`, where texts by
    keyword are the metadata of formats that have any. read: `(path, shape of an item, units)`, the
    inverse of `write`; None for a format that only shows items. each: True if a file holds one
    item, so that several items make a folder. check: raises ValueError where a package is
    missing.

    >>> from diffjax.data import KINDS
    >>> KINDS["image"].files[0].ending
    '.png'
    """

    ending: str
    write: Callable[[Path, np.ndarray, Units, Texts], None]
    read: Callable[[Path, tuple[int, ...], Units], np.ndarray] | None = None
    each: bool = True
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Kind:
    """The kind of items: their shapes and types, scaling, pictures, files and augmentations.

    name: its name in the catalogue. axes: the axes of an item, as messages show them. ranks: the
    allowed numbers of axes. channels: the allowed sizes of the last axis, empty for any. dtypes:
    the allowed stored types. bound: the largest allowed |value| of floats, None for any.

    normalise: converts stored values (B, ...) to floats in the range of the network, on the device.
    denormalise: `(x, dtype)`, converts samples of the network to stored values. values: converts
    stored items to the (N, D) that distances without a feature network compare. joined: `(x,
    cond)`, puts stored items and the conditions that pictures and files show side by side; by
    default items alone. features: the default feature network of `evaluate`. unit: scale and name
    of an error of the network's output.

    tiles: converts stored items (N, ...) to uint8 pictures (N, h, w, 1 or 3). together: `(x, label,
    units, class_names)`, draws one picture of all items in place of tiles. few: the largest D for
    which items (D,), D >= 2, are shown as a matrix of pairs in place of tiles. caption: `(x,
    units)`, a line of text below the tiles, such as the range that they show. noun: the word for an
    item in messages. files: the file formats; the first one with `each` is that of a folder.

    resizable: the names of the leading axes whose lengths samples may change, where the network is
    defined for any. window: the axes, counted from the last, along which items may be cropped.
    mirror: the axis along which items may be flipped. lengths: True if items may have different
    lengths along their first axis, with NaN beyond the end. space: the subspace in which items lie.
    augment: True if geometric augmentations of images apply. seen: `(x, units)`, converts stored
    items to the uint8 images (N, H, W, C) or vectors (N, D) that a classifier is fitted to.

    >>> from diffjax.data import KINDS
    >>> KINDS["image"].range("uint8"), KINDS["latent"].range("float32")
    ((0.0, 255.0), None)
    >>> KINDS["image"].check((8, 8, 2), "uint8")
    Traceback (most recent call last):
    ValueError: kind='image': ...
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
    resizable: tuple[str, ...] = ()
    window: tuple[int, ...] = ()
    mirror: int | None = None
    lengths: bool = False
    space: Space = PLAIN
    augment: bool = False
    seen: Callable[[np.ndarray, Units], np.ndarray] = unchanged
    values: Callable[[np.ndarray], np.ndarray] = flat
    joined: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray] = alone
    features: str = "pixels"
    noun: str = "item"
    unit: tuple[float, str] = (1.0, "units of the data")
    caption: Callable[[np.ndarray, Units], str] | None = None

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        """Raise ValueError for a shape of items or a type that this kind does not allow."""
        if len(shape) not in self.ranks or (self.channels and shape[-1] not in self.channels):
            sizes = " or ".join(map(str, self.channels))
            with_sizes = f" with a last axis of {sizes}" if sizes else ""
            has = f"kind={self.name!r}: the items have the shape {shape}"
            raise ValueError(f"{has}; needs {self.axes}{with_sizes}")
        self.space.check(shape)
        if dtype not in self.dtypes:
            allowed = " or ".join(self.dtypes)
            raise ValueError(f"kind={self.name!r}: the items are {dtype}; needs {allowed}")

    def check_values(self, x: np.ndarray) -> None:
        """Raise ValueError for floats that are not finite or exceed the bound."""
        if not np.issubdtype(x.dtype, np.floating) or not x.size:
            return
        most = float(np.abs(x).max())
        if not np.isfinite(most) or (self.bound is not None and most > self.bound):
            within = "" if self.bound is None else f" in [-{self.bound:g}, {self.bound:g}]"
            other = "; other kinds, such as kind='latent', have no bound" if within else ""
            raise ValueError(f"values up to {most:g}; needs finite {self.noun}s{within}{other}")

    def range(self, dtype: str) -> tuple[float, float] | None:
        """Return the least and the largest stored value, or None for unbounded floats."""
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
        texts: Sequence[str] = (),
    ) -> np.ndarray:
        """Draw stored items (N, ...) as one uint8 picture (H, W, 3).

        Items whose labels cycle through the classes form one column per class, under the name of
        the class if it has one. texts: one below each item, where items are tiles; they then stand
        in an approximately square grid.
        """
        if self.together:
            return self.together(x, label, units, class_names)
        if 2 <= x.shape[-1] <= self.few:
            return figures.pairs(figures.numbered(x), label, class_names)
        if texts:
            return drawing.described(self.tiles(x), texts)
        columns = drawing.columns(label, len(x))
        named = columns and class_names and label is not None
        shown = label[:columns].tolist() if named and label is not None else ()
        titles = [str(class_names[k]) if k >= 0 else "none" for k in shown]
        picture = drawing.grid(self.tiles(x), columns, titles=titles)
        text = self.caption(x, units) if self.caption else ""
        return drawing.captioned(picture, text) if text else picture

    def folder(self) -> Files | None:
        """Return the format of the files in a folder of items, None where the kind has none."""
        return next((f for f in self.files if f.each), None)

    def whole(self) -> dict[str, Files]:
        """Return the formats whose files hold all items, by their suffix."""
        return {f.ending: f for f in self.files if not f.each}
