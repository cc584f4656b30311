"""Count, mean and centred second moment of features: float64, by batches, merged over any parts."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

BLOCK = 4096


class Moments(NamedTuple):
    """Of `count` features of D values: `mean` (D,) and `scatter` (D, D), the sum of
    (x - mean) (x - mean)^T."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, (D, D). Raises ValueError for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"covariance of {self.count} features: needs at least 2")
        return self.scatter / (self.count - 1)


def moments(x: np.ndarray) -> Moments:
    """Those of features x (N, D), a product of matrices for each block of them."""
    return merged(_exactly(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK))


def merged(parts: Iterable[Moments]) -> Moments:
    """Those of all parts together: batches, or what devices or hosts have each.

    Chan, Golub and LeVeque (1983), eq. 1.5: no cancellation, however far the mean is from 0.
    """
    return functools.reduce(_merge, parts)


def _merge(a: Moments, b: Moments) -> Moments:
    count, apart = a.count + b.count, b.mean - a.mean
    between = np.outer(apart, apart) * (a.count * b.count / count)
    return Moments(count, a.mean + apart * (b.count / count), a.scatter + b.scatter + between)


def _exactly(x: np.ndarray) -> Moments:
    mean = x.mean(0, dtype=np.float64)
    centred = x - mean
    return Moments(len(x), mean, centred.T @ centred)
