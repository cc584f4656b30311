"""Toy data: points in the plane (N, 2) of about unit variance, visible at a glance."""

from __future__ import annotations

import numpy as np

from diffjax.data.source import SPLITS, Memory, check_split


def _generator(split: str, size: int) -> np.random.Generator:
    if size < 1:
        raise ValueError(f"size={size}: needs size >= 1")
    check_split(split, "toy data")
    return np.random.Generator(np.random.Philox(key=SPLITS.index(split)))


def moons(split: str, size: int = 10_000, noise: float = 0.05) -> Memory:
    """Draw `size` points on two interleaved half circles, one per class, with Gaussian noise.

    noise: its standard deviation. Raises ValueError for size < 1 or noise < 0.

    >>> moons("train", size=100)
    Memory(100 points items of (2,) float32, classes=2)
    """
    if noise < 0:
        raise ValueError(f"noise={noise}: needs noise >= 0")
    rng = _generator(split, size)
    label = rng.integers(0, 2, size)
    angle = np.pi * (rng.random(size) + label)
    centre = np.where(label[:, None] == 0, [-0.5, -0.25], [0.5, 0.25])
    x = centre + np.stack([np.cos(angle), np.sin(angle)], 1) + noise * rng.normal(size=(size, 2))
    return Memory(x.astype(np.float32), label.astype(np.int32), classes=2, kind="points")


def checkerboard(split: str, size: int = 10_000) -> Memory:
    """Draw `size` points uniformly on the eight dark squares of a 4 x 4 board, without classes.

    The board covers [-1.7, 1.7]^2. Raises ValueError for size < 1.

    >>> checkerboard("train", size=100)
    Memory(100 points items of (2,) float32, classes=0)
    """
    rng = _generator(split, size)
    row, column = rng.integers(0, 4, size), rng.integers(0, 2, size)
    corner = np.stack([2 * column + row % 2, row], 1)
    x = (corner + rng.random((size, 2)) - 2) * (1.7 / 2)
    return Memory(x.astype(np.float32), kind="points")
