"""Handwritten digits that move and bounce: videos made exactly, without a download.

The digit of a clip (`data.digits`, 8 x 8) moves with a constant velocity and is reflected at the
walls. Frames show it between pixels by bilinear weights, which move its centre of mass exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffjax import checks
from diffjax.data.digits import digits
from diffjax.data.form import Form
from diffjax.data.source import SPLITS, check_split
from diffjax.specs import Spec

DIGIT = 8
"""Side of a digit, in pixels."""
SECTORS, HELD_OUT = 64, 8
"""Sectors of directions, one in HELD_OUT of which the training split does not have."""
STILLS = 1 << 58
"""Stream of the random numbers of stills, to which the split is added."""
RATE = 10
"""Frames per second that files and pages show."""
ROOM = "room"
"""The unit of a form with the pixels that a centre of mass can move along each axis."""


def reflected(place: np.ndarray, room: float) -> np.ndarray:
    """Return places on a line as they are after reflections at 0 and `room`.

    >>> reflected(np.array([-1.0, 3.0, 9.0, 17.0]), 8.0).tolist()
    [1.0, 3.0, 7.0, 1.0]
    """
    return room - np.abs(np.mod(place, 2 * room) - room)


def drawn(image: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """Draw images (B, d, d) with their corners at places (B, T, 2): uint8 (B, T, side, side, 1).

    A pixel between four pixels is divided among them by bilinear weights. corner: (row, column), in
    [0, side - d].

    >>> drawn(np.array([[[200.0]]]), np.array([[[0.0, 0.5]]]), 2)[0, 0, ..., 0].tolist()
    [[100, 100], [0, 0]]
    """
    at = np.arange(side)[:, None] - np.arange(image.shape[1])[None]
    weights = np.maximum(1 - np.abs(at - corner[..., None, None]), 0)
    frames = weights[:, :, 0] @ image[:, None] @ weights[:, :, 1].swapaxes(-1, -2)
    return np.round(frames).astype(np.uint8)[..., None]


@dataclass(frozen=True, eq=False)
class MovingDigits:
    """Clips of moving digits, whose frames are computed when they are read.

    image, digit: all digits (M, 8, 8) and their classes (M,). which: the digit of each clip (N,).
    start, velocity: (N, 2), the place of its corner in the first frame, in pixels, and its change
    per frame. still: whether the frames of an item are stills instead, (N,), each with a digit and
    a place of its own. marked: whether items have the condition `still`.
    """

    image: np.ndarray
    digit: np.ndarray
    which: np.ndarray
    start: np.ndarray
    velocity: np.ndarray
    still: np.ndarray
    marked: bool
    frames: int
    side: int
    seed: int

    @property
    def form(self) -> Form:
        """Return the form of the clips, with the condition `still` where they are marked."""
        still = (Spec("still", "still", 2),) if self.marked else ()
        shape, units = (self.frames, self.side, self.side, 1), (("rate", RATE), (ROOM, self.room))
        return Form("video", shape, (Spec("label", "label", 10), *still), "uint8", units)

    @property
    def room(self) -> float:
        """The pixels between the walls that the digit has along each axis."""
        return float(self.side - DIGIT)

    def __len__(self) -> int:
        return len(self.which)

    def corners(self, index: np.ndarray) -> np.ndarray:
        """Return the places (B, T, 2) of the corners of the digits, as (row, column) in pixels."""
        time = np.arange(self.frames)[:, None]
        return reflected(self.start[index, None] + time * self.velocity[index, None], self.room)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        index = np.asarray(index)
        x = drawn(self.image[self.which[index]], self.corners(index), self.side)
        for row in np.flatnonzero(self.still[index]):
            x[row] = self._stills(int(index[row]))
        items = {"x": x, "label": self.labels()[index]}
        return items | {"still": self.still[index].astype(np.int32)} if self.marked else items

    def _stills(self, k: int) -> np.ndarray:
        """Return the frames (T, side, side, 1) of an item of stills."""
        rng = np.random.Generator(np.random.Philox(key=[STILLS + self.seed, k]))
        which = rng.integers(len(self.image), size=self.frames)
        corner = self.room * rng.random((self.frames, 1, 2))
        return drawn(self.image[which], corner, self.side)[:, 0]

    def labels(self) -> np.ndarray:
        """Return the classes (N,), and -1 for stills."""
        return np.where(self.still, -1, self.digit[self.which]).astype(np.int32)

    def __repr__(self) -> str:
        return f"MovingDigits({len(self)} video items of {self.form.shape} uint8)"


def moving_digits(
    split: str,
    size: int = 50_000,
    frames: int = 8,
    side: int = 16,
    speed: tuple[float, float] = (0.5, 2.0),
    stills: float = 0.0,
    only: tuple[int, ...] = (),
) -> MovingDigits:
    """Make `size` clips (frames, side, side, 1) of one digit that moves and bounces, in uint8.

    The splits have different images of digits, those of `digits`, and different directions: one in
    eight of 64 sectors is held out. frames, side: number and side of the frames. speed: the least
    and the largest speed, in pixels per frame. stills: the share of training items whose frames are
    unrelated, with the condition `still`, to train on images too; held-out items are clips. only:
    the digits to keep, all by default. Raises ValueError for values out of range.

    >>> source = moving_digits("test", size=100)
    >>> source, source[np.arange(2)]["x"].shape
    (MovingDigits(100 video items of (8, 16, 16, 1) uint8), (2, 8, 16, 16, 1))
    """
    check_split(split, "moving_digits")
    checks.at_least(1, size=size, frames=frames)
    checks.at_least(DIGIT + 1, side=side)
    checks.within(0, 1, stills=stills)
    if len(speed) != 2 or not 0 <= speed[0] <= speed[1]:
        raise ValueError(f"speed={speed}: needs two numbers, 0 <= least <= largest")
    of, seed = digits(split, only=tuple(only)), SPLITS.index(split)
    # Each clip has a row of numbers, so clip k does not depend on the number of clips.
    u = np.random.Generator(np.random.Philox(key=seed)).random((size, 6))
    held = np.arange(SECTORS) % HELD_OUT == 0
    sectors = np.flatnonzero(held == (split == "test"))
    place = u[:, 3] * len(sectors)
    angle = 2 * np.pi * (sectors[place.astype(int)] + place % 1) / SECTORS
    pace = speed[0] + (speed[1] - speed[0]) * u[:, 4]
    return MovingDigits(
        image=of.x[..., 0].astype(np.float64),
        digit=of.labels(),
        which=(u[:, 0] * len(of)).astype(int),
        start=(side - DIGIT) * u[:, 1:3],
        velocity=pace[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1),
        still=(u[:, 5] < stills) & (split == "train"),
        marked=stills > 0,
        frames=frames,
        side=side,
        seed=seed,
    )
