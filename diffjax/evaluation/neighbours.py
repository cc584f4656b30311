"""Metrics of nearest neighbours in features: precision, recall, density and coverage.

Distances are computed one block at a time, in float64 on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from diffjax.evaluation.beforehand import Counts, counting
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Real, Samples

BLOCK = 2048


def squares(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield blocks of the squared Euclidean distances between the rows of `a` and those of `b`.

    Each item has the slice of `a`, the slice of `b`, and the block (n, m) of their distances.
    """
    centre = b.mean(0, dtype=np.float64)  # far from 0 the squares would cancel
    for rows in _slices(len(a)):
        x = a[rows] - centre
        norms = (x**2).sum(1)[:, None]
        for columns in _slices(len(b)):
            y = b[columns] - centre
            yield rows, columns, (norms + (y**2).sum(1) - 2 * x @ y.T).clip(0)


def _slices(count: int) -> list[slice]:
    return [slice(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def nearest(a: np.ndarray, b: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of each row of `a` to its k nearest rows of `b`, and their indices.

    Both are (N, k); distances ascend. Raises ValueError for fewer than k rows of `b`.
    """
    if len(b) < k:
        raise ValueError(f"{k} nearest of {len(b)} items: needs at least {k} items")
    best, index = np.full((len(a), k), np.inf), np.zeros((len(a), k), int)
    for rows, columns, block in squares(a, b):
        far = np.hstack([best[rows], block])
        names = np.broadcast_to(np.arange(columns.start, columns.stop), block.shape)
        pick = np.argpartition(far, k - 1, axis=1)[:, :k]
        best[rows] = np.take_along_axis(far, pick, 1)
        index[rows] = np.take_along_axis(np.hstack([index[rows], names]), pick, 1)
    order = np.argsort(best, axis=1, kind="stable")
    return np.sqrt(np.take_along_axis(best, order, 1)), np.take_along_axis(index, order, 1)


class Balls(NamedTuple):
    """The balls around items whose radii are the distances to their k-th nearest neighbours."""

    x: np.ndarray
    square: np.ndarray
    k: int


def balls(x: np.ndarray, k: int) -> Balls:
    """Construct the balls around items x (N, D), with squared radii `square` (N,).

    Raises ValueError for k items or fewer.
    """
    if not 0 < k < len(x):
        raise ValueError(f"k={k} neighbours of {len(x)} items: needs 0 < k < items")
    return Balls(x, nearest(x, x, k + 1)[0][:, k] ** 2, k)  # the first is the item itself


def overlap(real: Balls, fake: Balls) -> dict[str, float]:
    """Return the share of samples in a ball of a real item, and of real items in one of a sample.

    These are precision and recall (arXiv:1904.06991, eq. 2).
    """
    precise, recalled = np.zeros(len(fake.x), bool), np.zeros(len(real.x), bool)
    for rows, columns, block in squares(fake.x, real.x):
        precise[rows] |= (block <= real.square[columns]).any(1)
        recalled[columns] |= (block <= fake.square[rows, None]).any(0)
    return {"precision": float(precise.mean()), "recall": float(recalled.mean())}


def spread(real: Balls, fake: np.ndarray) -> dict[str, float]:
    """Return density and coverage (arXiv:2002.09797).

    They are the mean number of balls of real items that a sample lies in, divided by k, and the
    share of balls that contain a sample.
    """
    inside, covered = 0, np.zeros(len(real.x), bool)
    for _, columns, block in squares(fake, real.x):
        within = block <= real.square[columns]
        inside += int(within.sum())
        covered[columns] |= within.any(0)
    return {"density": inside / (real.k * len(fake)), "coverage": float(covered.mean())}


def _among_items(counts: Counts, k: int = 5, **_: Any) -> None:
    """Raise ValueError where a training item has fewer than k others."""
    if counts.real <= k:
        raise ValueError(f"k={k}: there are {counts.real} training items; needs at least {k + 1}")


def _among_both(counts: Counts, k: int = 3, resamples: int = 20, **_: Any) -> None:
    """Raise ValueError as `_among_items`, and for too few samples, of which intervals take half."""
    _among_items(counts, k)
    least = (k + 1) * (2 if resamples else 1)
    if counts.samples < least:
        halves = ", as intervals use half of them (resamples=0 uses all)" * bool(resamples)
        raise ValueError(
            f"k={k}: there are {counts.samples} samples; needs at least {least}{halves}"
        )


@counting(_among_both)
def precision_recall(
    real: Real, samples: Samples, k: int = 3, resamples: int = 20
) -> dict[str, Any]:
    """Compute precision and recall: the shares of samples near training items and vice versa.

    Near means within the distance to the k-th nearest neighbour of its own kind. Both depend on the
    numbers of items (arXiv:1904.06991).

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> precision_recall(real, Samples(real.train.x, None), resamples=0)
    {'precision': 1.0, 'recall': 1.0, 'k': 3}
    """
    known, x = balls(real.features, k), real.need(samples, "pool")
    values = lambda rows: overlap(known, balls(x[rows], k))
    shares = ("precision", "recall")
    return with_intervals(values, len(x), resamples, samples.label, shares=shares) | {"k": k}


@counting(_among_items)
def density_coverage(
    real: Real, samples: Samples, k: int = 5, resamples: int = 20
) -> dict[str, Any]:
    """Compute density and coverage of samples near training items (arXiv:2002.09797).

    Near means no farther from the training item than its k-th nearest other training item.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> density_coverage(real, Samples(real.train.x + 9, None), resamples=0)
    {'density': 0.0, 'coverage': 0.0, 'k': 5}
    """
    known, x = balls(real.features, k), real.need(samples, "pool")
    values = lambda rows: spread(known, x[rows])
    shares = ("coverage",)
    return with_intervals(values, len(x), resamples, samples.label, shares=shares) | {"k": k}
