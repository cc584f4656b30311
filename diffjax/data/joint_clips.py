"""Clips of moving digits and their classes in one item: frames, and a last one with the class."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax.checks import at_least, within
from diffjax.data.form import Form
from diffjax.data.moving_digits import RATE, MovingDigits, moving_digits
from diffjax.data.source import check_split

CLASSES = 10
"""The number of classes of moving digits."""


@dataclass(frozen=True)
class Card:
    """The layout of a clip (T, S, S, C) and a class in one item: T frames, and a card behind them.

    The card is one more frame, a tile of g x g pixels that is repeated over it, with the least g
    for which 2^(g^2) >= classes. The pixels of the tile are the binary digits of the class, the
    lowest one first, as -scale and scale. So each place of the card shows the class, which a
    network of convolutions need not carry from place to place. shape: that of the clip. classes:
    the number of classes. Raises ValueError for fewer than two classes, for frames with fewer than
    g rows or columns, and for a scale outside (0, 1].

    >>> card = Card((8, 16, 16, 1), classes=10)
    >>> card.positions, card.cards(np.array([6]))[0, 0, :2, :4, 0].tolist()
    ((8, 1), [[-1.0, 1.0, -1.0, 1.0], [1.0, -1.0, 1.0, -1.0]])
    >>> items = card.pack(np.zeros((1, 8, 16, 16, 1)), np.array([7]))
    >>> items.shape, card.labels(items).tolist()
    ((1, 9, 16, 16, 1), [7])
    """

    shape: tuple[int, int, int, int]
    classes: int
    scale: float = 1.0

    def __post_init__(self):
        at_least(2, classes=self.classes)
        within(0, 1, "(]", scale=self.scale)
        if min(self.shape[1:3]) < self.parts:
            raise ValueError(
                f"shape={self.shape}: a card of {self.classes} classes needs at least "
                f"{self.parts} rows and columns"
            )

    @property
    def parts(self) -> int:
        """The number g of pixels along each side of the tile."""
        return next(g for g in itertools.count(1) if 2 ** (g * g) >= self.classes)

    @property
    def words(self) -> np.ndarray:
        """The tile of each class, -1 or 1, as rows (classes, g^2)."""
        digits = np.arange(self.classes)[:, None] >> np.arange(self.parts**2)
        return 2.0 * (digits & 1) - 1

    @property
    def positions(self) -> tuple[int, int]:
        """The numbers of frames of the clip and of the card, which are sizes of lanes."""
        return self.shape[0], 1

    @property
    def places(self) -> np.ndarray:
        """The pixel of the tile that each pixel of the card repeats, (H, W)."""
        rows, columns = (np.arange(n) % self.parts for n in self.shape[1:3])
        return rows[:, None] * self.parts + columns

    def cards(self, label: Any) -> np.ndarray:
        """Return the cards (N, 1, H, W, C) of labels (N,), with values -scale and scale."""
        card = (self.scale * self.words[np.asarray(label)][:, self.places]).astype(np.float32)
        return np.broadcast_to(card[:, None, ..., None], (len(card), 1, *self.shape[1:]))

    def pack(self, x: Any, label: Any) -> np.ndarray:
        """Return clips (N, T, H, W, C) in [-1, 1] with labels (N,) as items (N, T + 1, H, W, C)."""
        return np.concatenate([np.asarray(x, np.float32), self.cards(label)], 1)

    def images(self, items: Any) -> np.ndarray:
        """Return the clips (N, T, H, W, C) of items (N, T + 1, H, W, C)."""
        return np.asarray(items)[:, : self.shape[0]]

    def labels(self, items: Any) -> np.ndarray:
        """Return the labels (N,) of items in [-1, 1], whose tiles are nearest to the mean one."""
        card = np.asarray(items, np.float64)[:, self.shape[0] :].mean((1, -1))
        member = self.places.ravel() == np.arange(self.parts**2)[:, None]
        tile = card.reshape(len(items), -1) @ (member / member.sum(1, keepdims=True)).T
        return (tile @ self.words.T).argmax(1)


@dataclass(frozen=True, eq=False)
class JointClips:
    """Clips of moving digits with a card each, computed when they are read. card: the layout."""

    clips: MovingDigits
    card: Card

    @property
    def form(self) -> Form:
        """Return the form of the items, videos of one frame more than the clips have."""
        frames, *frame = self.card.shape
        return Form("video", (frames + 1, *frame), (), "uint8", (("rate", RATE),))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        items = self.clips[index]
        cards = np.round((self.card.cards(items["label"]) + 1) * 127.5).astype(np.uint8)
        return {"x": np.concatenate([items["x"], cards], 1)}

    def labels(self) -> np.ndarray:
        """Return zeros (N,): the classes are in the items, and are no conditions."""
        return np.zeros(len(self), np.int32)

    def __repr__(self) -> str:
        return f"JointClips({len(self)} video items of {self.form.shape} uint8)"


def joint_clips(
    split: str,
    size: int = 50_000,
    frames: int = 8,
    side: int = 16,
    speed: tuple[float, float] = (0.5, 2.0),
    scale: float = 1.0,
) -> JointClips:
    """Make `moving_digits` with their classes in one item, a `Card` (frames + 1, side, side, 1).

    scale: the value of the card, in (0, 1]. The other settings are those of `moving_digits`. With
    lanes of the sizes `Card.positions`, one network has the joint distribution, both conditional
    ones and both marginals (UniDiffuser, arXiv:2303.06555). Raises ValueError for settings of
    either out of range.

    >>> source = joint_clips("test", size=100)
    >>> source, source.card.labels(source[np.arange(3)]["x"] / 127.5 - 1).tolist()
    (JointClips(100 video items of (9, 16, 16, 1) uint8), [6, 7, 3])
    """
    check_split(split, "joint_clips")
    clips = moving_digits(split, size, frames, side, speed)
    return JointClips(clips, Card((frames, side, side, 1), CLASSES, scale))
