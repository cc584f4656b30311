"""Ramps of the guidance weight over time: w(t) = 1 + (weight - 1) ramp(t).

Each ramp has mean 1 on t in [0, 1]. They are the schedulers of arXiv:2404.13040, with its omega =
weight - 1.
"""

from __future__ import annotations

import numpy as np


def weights(weight: float | np.ndarray, ramp: float | np.ndarray) -> np.ndarray:
    """Return 1 + (weight - 1) ramp for arrays that broadcast, rounded to float32 as on the device.

    It is exactly 1, which means no guidance, where weight = 1 or ramp = 0.
    """
    weights_of_rows = 1 + (np.asarray(weight, np.float64) - 1) * np.asarray(ramp, np.float64)
    return np.asarray(weights_of_rows, np.float32).astype(np.float64)


def constant(t: np.ndarray) -> np.ndarray:
    """Return 1: the same weight at all times.

    >>> constant(np.array([1.0, 0.5, 0.0])).tolist()
    [1.0, 1.0, 1.0]
    """
    return np.ones_like(t)


def linear(t: np.ndarray) -> np.ndarray:
    """Return 2 (1 - t): no guidance at t = 1, rising to twice the mean at t = 0.

    >>> linear(np.array([1.0, 0.5, 0.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    return 2 * (1 - t)


def cosine(t: np.ndarray) -> np.ndarray:
    """Return 1 + cos(pi t): the same values at both ends as `linear`, with less guidance early.

    >>> cosine(np.array([1.0, 0.5, 0.0])).round(3).tolist()
    [0.0, 1.0, 2.0]
    """
    return 1 + np.cos(np.pi * t)
