"""Count, mean and centred second moment of features, in float64 and mergeable over parts."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

BLOCK = 4096


class Moments(NamedTuple):
    """The moments of `count` feature vectors of D values.

    mean: (D,). scatter: (D, D), the sum of (x - mean) (x - mean)^T.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Return the unbiased covariance (D, D); raise ValueError for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"covariance of {self.count} features: needs at least 2")
        return self.scatter / (self.count - 1)


def moments(x: np.ndarray) -> Moments:
    """Compute the moments of features x (N, D), with one matrix product per block of rows."""
    return merged(_exactly(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK))


def merged(parts: Iterable[Moments]) -> Moments:
    """Merge the moments of parts, such as batches, devices or hosts.

    The formula of Chan, Golub and LeVeque (1983), eq. 1.5, does not cancel, however far the mean is
    from 0.
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
