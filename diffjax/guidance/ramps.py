"""How the weight follows time: w = 1 + (weight - 1) ramp(t), each ramp of mean 1 on t in [0, 1].

The schedulers of arXiv:2404.13040, with its omega = weight - 1.
"""

from __future__ import annotations

import numpy as np


def weights(weight: float | np.ndarray, ramp: float | np.ndarray) -> np.ndarray:
    """1 + (weight - 1) ramp of arrays that broadcast, as the device will see it.

    Exactly 1, which is no guidance, where either says so.
    """
    weights_of_rows = 1 + (np.asarray(weight, np.float64) - 1) * np.asarray(ramp, np.float64)
    return np.asarray(weights_of_rows, np.float32).astype(np.float64)


def constant(t: np.ndarray) -> np.ndarray:
    """1: the same weight at all times."""
    return np.ones_like(t)


def linear(t: np.ndarray) -> np.ndarray:
    """2 (1 - t): no guidance at t = 1, rising to twice as much at t = 0."""
    return 2 * (1 - t)


def cosine(t: np.ndarray) -> np.ndarray:
    """1 + cos(pi t): the same ends, less of it early."""
    return 1 + np.cos(np.pi * t)
