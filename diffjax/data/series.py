"""Gaussian series with a known law: damped rotations of the plane, a VAR(1) process."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from diffjax.checks import at_least, within
from diffjax.data.source import SPLITS, Memory, check_split


def series(
    split: str, size: int = 10_000, length: int = 16, rho: float = 0.95, turn: float = 0.5
) -> Memory:
    """Draw `size` stationary series (length, 2) of x_k = rho R x_(k-1) + sqrt(1 - rho^2) z_k.

    R rotates by `turn` radians, and z is standard normal, so every row is N(0, I): the process is
    VAR(1), whose forecasts are known exactly, see `covariance`. Raises ValueError for size < 1,
    length < 2 and rho outside of [0, 1).

    >>> series("train", size=100)
    Memory(100 sequence items of (16, 2) float32, classes=0)
    """
    at_least(1, size=size)
    at_least(2, length=length)
    within(0, 1, "[)", rho=rho)
    check_split(split, "toy data")
    rng = np.random.Generator(np.random.Philox(key=SPLITS.index(split)))
    z = rng.normal(size=(size, length, 2))
    x = [z[:, 0]]
    for k in range(1, length):
        x.append(rho * x[-1] @ rotation(turn).T + np.sqrt(1 - rho**2) * z[:, k])
    return Memory(np.stack(x, 1).astype(np.float32), kind="sequence")


def rotation(angle: float) -> Float[np.ndarray, "2 2"]:
    """Return the matrix that rotates the plane by an angle in radians.

    >>> rotation(np.pi / 2).round(12).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def covariance(
    length: int = 16, rho: float = 0.95, turn: float = 0.5
) -> Float[np.ndarray, "2*length 2*length"]:
    """Return the covariance of the values of `series`, row by row: (2 length, 2 length).

    Rows k >= j have the covariance rho^(k-j) R^(k-j); the mean is 0. So `analytic.LaneDenoiser` is
    the exact denoiser, and Schur complements are the exact forecasts.

    >>> covariance(length=2, rho=0.5, turn=np.pi / 2).round(6)[2:, :2].tolist()
    [[0.0, -0.5], [0.5, 0.0]]
    """
    blocks = [
        [
            rho ** abs(k - j) * (rotation(turn * (k - j)) if k >= j else rotation(turn * (j - k)).T)
            for j in range(length)
        ]
        for k in range(length)
    ]
    return np.block(blocks)
