"""Distances of clouds of points, and what they say about samples beside held-out clouds.

Both distances compare two sets of n points, in any order: the Chamfer distance in squared units,
and the exact earth mover's distance in units of the coordinates. Published values differ between
code bases, which use other powers, sums in place of means, or approximate assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.resampling import Rows, with_intervals
from diffjax.evaluation.samples import Real, Samples

Distance = Callable[[np.ndarray, np.ndarray], float]


def chamfer(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean squared distance of points x (n, d) to the nearest of y (m, d), and back.

    It is the sum of the means over both directions, invariant to order, rotation and translation of
    both, and scales as s^2.

    >>> chamfer(np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]]))
    2.5
    """
    apart = _apart(x, y) ** 2
    return float(apart.min(1).mean() + apart.min(0).mean())


def earth_movers(x: np.ndarray, y: np.ndarray) -> float:
    """Return the least mean distance between points x (n, d) and y (n, d) over all assignments.

    It is exact: the minimum over permutations p of the mean of |x_i - y_p(i)|, by the linear
    assignment of SciPy. It is a metric of sets of n points, and scales as s. Raises ValueError for
    sets of different sizes.

    >>> earth_movers(np.array([[0.0], [1.0]]), np.array([[3.0], [0.0]]))
    1.0
    """
    from scipy.optimize import linear_sum_assignment

    if len(x) != len(y):
        raise ValueError(f"earth_movers: sets of {len(x)} and {len(y)} points; needs equal numbers")
    apart = _apart(x, y)
    # A number that is the same in a row or a column changes all assignments alike. Without the
    # minima the best one is found in 0.7 of the time.
    cost = apart - apart.min(1, keepdims=True)
    return float(apart[linear_sum_assignment(cost - cost.min(0))].mean())


def _apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(np.asarray(x, np.float64), np.asarray(y, np.float64))


DISTANCES: dict[str, Distance] = {"emd": earth_movers, "chamfer": chamfer}


class Distances(NamedTuple):
    """The distances of N clouds of each of two sets: within the first, across, within the second.

    Each is (N, N); those within a set are symmetric, and 0 on the diagonal.
    """

    first: np.ndarray
    across: np.ndarray
    second: np.ndarray

    def of(self, rows: Rows) -> Distances:
        """Return the distances of these clouds of each set."""
        return Distances(*(a[rows][:, rows] for a in self))


def within(x: np.ndarray, distance: Distance) -> np.ndarray:
    """Return the distances (N, N) of each two of N clouds x (N, n, d).

    >>> within(np.array([[[0.0]], [[2.0]]]), earth_movers).tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    found = np.zeros((len(x), len(x)))
    for i, j in zip(*np.triu_indices(len(x), 1), strict=True):
        found[i, j] = found[j, i] = distance(x[i], x[j])
    return found


def across(x: np.ndarray, y: np.ndarray, distance: Distance) -> np.ndarray:
    """Return the distances (N, M) of clouds x (N, n, d) to clouds y (M, n, d).

    >>> across(np.array([[[0.0]]]), np.array([[[1.0]], [[2.0]]]), chamfer).tolist()
    [[2.0, 8.0]]
    """
    return np.array([[distance(a, b) for b in y] for a in x])


def nearest_neighbour_accuracy(apart: Distances) -> float:
    """Return how often the nearest of all other clouds is of the same set, 1-NNA.

    For two sets of one distribution the mean is (N - 1) / (2 N - 1), about 0.5; it is 1 for sets
    that lie apart (arXiv:1906.12320). Of equally near clouds the other set's counts half.

    >>> far = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> nearest_neighbour_accuracy(Distances(far, far + 9, far))
    1.0
    """
    own = [a + np.diag(np.full(len(a), np.inf)) for a in (apart.first, apart.second)]
    other = [apart.across.min(1), apart.across.min(0)]
    right = [(a.min(1) < b) + 0.5 * (a.min(1) == b) for a, b in zip(own, other, strict=True)]
    return float(np.mean(right))


def values_of(apart: Distances) -> dict[str, float]:
    """Return 1-NNA, coverage and the minimum matching distance of the first set to the second.

    Coverage is the share of clouds of the second set that are the nearest to one of the first, and
    the minimum matching distance the mean of the distances of clouds of the second set to the
    nearest of the first (arXiv:1707.02392).

    >>> far = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> values_of(Distances(far, far, far))
    {'nna': 0.0, 'coverage': 1.0, 'mmd': 0.0}
    """
    covered = np.unique(apart.across.argmin(1))
    return {
        "nna": nearest_neighbour_accuracy(apart),
        "coverage": len(covered) / apart.across.shape[1],
        "mmd": float(apart.across.min(0).mean()),
    }


def compared(
    x: np.ndarray, held: np.ndarray, known: Mapping[str, Distances] | None = None
) -> dict[str, Distances]:
    """Return the distances of clouds x (N, n, d) and of held-out ones (N, n, d), by the distance.

    known: those of other clouds to the same held-out ones, which gives the distances within these.

    >>> sorted(compared(np.zeros((2, 3, 2)), np.zeros((2, 3, 2))))
    ['chamfer', 'emd']
    """
    found = {}
    for name, distance in DISTANCES.items():
        second = known[name].second if known else within(held, distance)
        found[name] = Distances(within(x, distance), across(x, held, distance), second)
    return found


def summary(apart: Mapping[str, Distances], rows: Rows = slice(None)) -> dict[str, float]:
    """Return `values_of` these rows for each distance, under names such as `emd_nna`.

    >>> far = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> summary({"emd": Distances(far, far + 9, far)})["emd_nna"]
    1.0
    """
    found = {name: values_of(a.of(rows)) for name, a in apart.items()}
    return {f"{name}_{k}": v for name, each in found.items() for k, v in each.items()}


SHARES = tuple(f"{name}_{value}" for name in DISTANCES for value in ("nna", "coverage"))
"""The values of `summary` that are shares of clouds."""


def _clouds(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no clouds, and for fewer than two held-out items."""
    needs(counts, "cloud", "clouds of points", held_out=0)
    if min(counts.held_out, counts.samples) < 2:
        raise ValueError(
            f"{counts.samples} samples and {counts.held_out} held-out items; needs 2 of each"
        )


@counting(_clouds)
def clouds(real: Real, samples: Samples, size: int = 100, resamples: int = 20) -> dict[str, Any]:
    """Compare clouds with as many held-out ones, by the exact EMD and by the Chamfer distance.

    For each distance, under its name: `nna`, the accuracy of the nearest neighbour, 0.5 at best;
    `coverage`, the share of held-out clouds that are the nearest to a sample; `mmd`, the mean
    distance of held-out clouds to the nearest sample. `floor_` is each value for training items in
    place of the samples, whose 1-NNA is not exactly 0.5. size: the largest number of clouds of each
    set. Raises ValueError for items that are no clouds, and without held-out items.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(lambda split: data.dw4(split, size=8), data.Reading(), 8, Path())
    >>> clouds(real, Samples(real.test.x, None), resamples=0)["emd_mmd"]
    0.0
    """
    if real.test.form.kind != "cloud":
        raise ValueError(f"clouds: needs clouds of points; the items are {real.test.form.kind}")
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(real.train.x))
    count = min(size, len(samples.x), len(real.test.x), len(order))
    held, ours, floor = real.test.x[:count], samples.x[:count], real.train.x[order[:count]]
    apart = compared(ours, held)
    found = with_intervals(lambda rows: summary(apart, rows), count, resamples, shares=SHARES)
    lowest = summary(compared(floor, held, apart))
    return found | {f"floor_{k}": v for k, v in lowest.items()} | {"of": count}
