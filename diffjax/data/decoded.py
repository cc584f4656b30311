"""Source of encoded images, which are decoded when read, and its handling of unreadable ones."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from diffjax.config import ConfigError
from diffjax.data import conditions
from diffjax.data.form import Form
from diffjax.data.images import Unreadable, decode, to_uint8
from diffjax.data.pictures import Pictures
from diffjax.data.source import Memory
from diffjax.specs import Spec

if TYPE_CHECKING:
    from PIL import Image


@runtime_checkable
class Files(Protocol):
    """Encoded images by index, whatever storage holds them."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the classes; empty where there are no labels."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: Sequence[int]) -> list[tuple[Callable[[], Image.Image], int]]:
        """Return, for each index, a function that opens the image, and the label of the image."""
        ...

    def labels(self) -> Sequence[int]:
        """Return all labels; they are 0 where the images have none."""
        ...

    def captions(self, index: Sequence[int]) -> list[list[str]]:
        """Return the captions of each image at `index`; empty lists where images have none."""
        ...

    def name(self, i: int) -> str:
        """Return the name of item i in messages."""
        ...


class Stored:
    """Images in memory behind the interface of `Files`.

    Raises ValueError for items that are not images.
    """

    def __init__(self, items: Memory):
        if items.form.kind != "image":
            raise ValueError(
                f"the items are of kind {items.form.kind!r} and shape {items.shape}; needs images"
            )
        self._items, self.names = items, [str(i) for i in range(items.classes)]

    def __len__(self) -> int:
        return len(self._items)

    def labels(self) -> Sequence[int]:
        return self._items.labels().tolist()

    def captions(self, index: Sequence[int]) -> list[list[str]]:
        return self._items.captions(np.asarray(index))

    def name(self, i: int) -> str:
        return f"item {i}"

    def read(self, index: Sequence[int]) -> list[tuple[Callable[[], Image.Image], int]]:
        from PIL import Image

        label = self._items.labels()

        def opened(x: np.ndarray) -> Image.Image:
            x = x if x.dtype == np.uint8 else to_uint8(x)
            return Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)

        return [((lambda x=self._items.x[i]: opened(x)), int(label[i])) for i in index]


class _Read(NamedTuple):
    """An image that was read: its pixels, its label, its index, and its (width, height) before."""

    x: np.ndarray
    label: int
    index: int
    whole: tuple[int, int]


class Decoded:
    """The source over `files`, which yields every image as uint8 in one common shape.

    files: the encoded images. size: height and width to resize and crop to, or 0 where all images
    have one shape. channels: 1 (grey) or 3 (RGB). unreadable: the largest number of unreadable
    images; each is reported by name and replaced by the next readable image. cond: conditions of
    all images besides the label, by name, (N, ...). beside: pictures of all images, which become
    conditions on their grid. Raises ValueError for a setting out of range; reading raises
    ConfigError for one unreadable image too many, and for an image of another shape.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        files: Files,
        size: int = 0,
        channels: int = 3,
        unreadable: int = 0,
        cond: Mapping[str, np.ndarray] | None = None,
        beside: Sequence[Pictures] = (),
    ):
        if size < 0:
            raise ValueError(f"size={size}: needs size >= 0; 0 leaves the images as they are")
        if channels not in (1, 3):
            raise ValueError(f"channels={channels}: needs 1 (grey) or 3 (RGB)")
        if unreadable < 0:
            raise ValueError(f"unreadable={unreadable}: needs unreadable >= 0")
        self.files, self._size, self._channels = files, size, channels
        self._allowed, self._bad, self._lock = unreadable, set(), threading.Lock()
        self.classes = len(files.names)
        self.shape = (size, size, channels) if size else self._at(0).x.shape
        self._cond, self._beside = dict(cond or {}), beside
        label = (Spec("label", "label", self.classes),) if self.classes else ()
        others = [conditions.describe(name, value) for name, value in self._cond.items()]
        others += [Spec(maps.name, "map", maps.channels) for maps in beside]
        numbers = [str(i) for i in range(self.classes)]  # class names that carry no information
        self.form = Form(
            kind="image",
            shape=self.shape,
            conditions=(*label, *others),
            dtype="uint8",
            class_names=() if [*files.names] == numbers else tuple(files.names),
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        x = np.empty((len(index), *self.shape), np.uint8)
        label = np.empty(len(index), np.int32)
        there = index.copy()  # the items actually read, whose conditions are returned
        grids = [[] for _ in self._beside]
        for k, (open_image, kind) in enumerate(self.files.read(index.tolist())):
            i = int(index[k])
            image = self._decode(i, open_image, kind) or self._at(i + 1)
            if image.x.shape != self.shape:
                raise ConfigError(
                    f"{self.files.name(i)}: is {_by(image.x.shape)}, and the first image is "
                    f"{_by(self.shape)}; config.data.size resizes and crops all images"
                )
            x[k], label[k], there[k] = image.x, image.label, image.index
            for rows, pictures in zip(grids, self._beside, strict=True):
                rows.append(pictures.at(image.index, self._size, self.shape, image.whole))
        others = {name: value[there] for name, value in self._cond.items()}
        others |= {p.name: np.stack(rows) for p, rows in zip(self._beside, grids, strict=True)}
        return {"x": x, **({"label": label} if self.classes else {}), **others}

    def labels(self) -> np.ndarray:
        return np.asarray(self.files.labels(), np.int32)

    def captions(self, index: np.ndarray) -> list[list[str]]:
        """Return the captions of the items at `index` (B,), the preferred caption first.

        An image that proved unreadable has those of its replacement.
        """
        return self.files.captions([self._read(int(i)) for i in index])

    def _read(self, i: int) -> int:
        """Return the index of the image that is read in place of image i, mostly i itself."""
        while i in self._bad and len(self._bad) < len(self):
            i = (i + 1) % len(self)
        return i

    def _at(self, start: int) -> _Read:
        """Return the first readable image from item `start` onwards.

        The search wraps around. Raises ConfigError where no image is readable.
        """
        for i in (*range(start, len(self)), *range(start)):
            [(open_image, kind)] = self.files.read([i])
            if image := self._decode(i, open_image, kind):
                return image
        raise ConfigError(f"{self.files.name(0)}: neither this image nor any other is readable")

    def _decode(self, i: int, open_image: Callable[[], Image.Image], label: int) -> _Read | None:
        try:
            x, whole = decode(open_image, self._size, self._channels)
        except Unreadable as error:
            self._note(i, str(error))
            return None
        return _Read(x, label, i, whole)

    def _note(self, i: int, reason: str) -> None:
        with self._lock:
            if i in self._bad:
                return
            if len(self._bad) == self._allowed:
                raise ConfigError(
                    f"{self.files.name(i)}: unreadable ({reason}); unreadable images so far: "
                    f"{self._allowed + 1}, allowed: config.data.unreadable={self._allowed}"
                )
            self._bad.add(i)
            print(f"{self.files.name(i)}: unreadable ({reason}), left out", file=sys.stderr)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
