"""Images and their labels in one item: positions of pixels, and positions of a one-hot label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax.checks import at_least, positive
from diffjax.data.digits import digits
from diffjax.data.emoji import emoji
from diffjax.data.source import Memory

OF = {"digits": digits, "emoji": emoji}
"""The sources of images with labels that `joint` knows."""


@dataclass(frozen=True)
class Pair:
    """The layout of an image (H, W, C) and a label in one item (L, P), P = patch^2 C.

    The first (H / patch) (W / patch) positions are squares of the image, row by row, and the
    others the one-hot label times `scale`, from -scale to scale, with values of 0 behind it up to a
    whole position. shape: that of the image. classes: the number of labels. Raises ValueError for a
    patch that does not divide the sides, and for fewer than two classes.

    >>> pair = Pair((8, 8, 1), classes=10)
    >>> pair.positions, pair.width
    ((16, 3), 4)
    >>> items = pair.pack(np.zeros((1, 8, 8, 1)), np.array([7]))
    >>> items.shape, pair.labels(items).tolist()
    ((1, 19, 4), [7])
    """

    shape: tuple[int, int, int]
    classes: int
    patch: int = 2
    scale: float = 1.0

    def __post_init__(self):
        at_least(1, patch=self.patch)
        at_least(2, classes=self.classes)
        positive(scale=self.scale)
        if self.shape[0] % self.patch or self.shape[1] % self.patch:
            raise ValueError(f"patch={self.patch}: does not divide the sides of {self.shape}")

    @property
    def width(self) -> int:
        """The number of values of a position."""
        return self.patch**2 * self.shape[2]

    @property
    def positions(self) -> tuple[int, int]:
        """The numbers of positions of the image and of the label, which are sizes of lanes."""
        squares = self.shape[0] * self.shape[1] // self.patch**2
        return squares, -(-self.classes // self.width)

    def pack(self, x: Any, label: Any) -> np.ndarray:
        """Return images (N, H, W, C) in [-1, 1] with labels (N,) as items (N, L, P)."""
        h, w, c = self.shape
        p, (squares, more) = self.patch, self.positions
        cut = np.asarray(x).reshape(len(x), h // p, p, w // p, p, c).swapaxes(2, 3)
        hot = np.zeros((len(x), more * self.width))
        hot[:, : self.classes] = self.scale * (2 * np.eye(self.classes)[np.asarray(label)] - 1)
        parts = cut.reshape(len(x), squares, -1), hot.reshape(len(x), more, -1)
        return np.concatenate(parts, 1).astype(np.float32)

    def images(self, items: Any) -> np.ndarray:
        """Return the images (N, H, W, C) of items (N, L, P)."""
        (h, w, c), p = self.shape, self.patch
        cut = np.asarray(items)[:, : self.positions[0]].reshape(-1, h // p, w // p, p, p, c)
        return cut.swapaxes(2, 3).reshape(-1, h, w, c)

    def labels(self, items: Any) -> np.ndarray:
        """Return the labels (N,) of items (N, L, P), those of the largest values."""
        hot = np.asarray(items)[:, self.positions[0] :].reshape(len(items), -1)
        return hot[:, : self.classes].argmax(1)


def joint(split: str, of: str = "digits", patch: int = 2, scale: float = 1.0) -> Memory:
    """Return images of a source with their labels in one item, a `Pair` (L, P).

    of: the source, an entry of `OF`. With lanes of the sizes `Pair.positions`, one network has the
    joint distribution, both conditional ones and both marginals (UniDiffuser, arXiv:2303.06555).
    Raises ValueError for another source, and for settings of `Pair` out of range.

    >>> joint("test")
    Memory(297 sequence items of (19, 4) float32, classes=0)
    """
    if of not in OF:
        raise ValueError(f"of={of!r}: unknown; known: {', '.join(OF)}")
    source = OF[of](split)
    pair = Pair(source.x.shape[1:], source.classes, patch, scale)
    x = np.asarray(source.x, np.float32) / 127.5 - 1
    return Memory(pair.pack(x, source.label), kind="sequence")
