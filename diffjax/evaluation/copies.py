"""Memorization: the distances of samples to training items, compared with held-out items."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from diffjax.devices.processes import first
from diffjax.evaluation.beforehand import Counts, counting
from diffjax.evaluation.neighbours import nearest
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Arrays, Real, Samples

MOST_FITTED = 5000
"""The largest number of training items that the cells are fitted to."""
SHARES = ("closer", "authenticity")
FIXED = ("held_out", "authenticity_held_out")
"""Results that depend on the held-out items only, not on the samples."""


class Near(NamedTuple):
    """The nearest training item of each of N items, each field (N,).

    The fields are the distance to it, its index, whether another training item is nearer to it than
    the item itself (authentic), and the cell of the item.
    """

    distance: np.ndarray
    index: np.ndarray
    authentic: np.ndarray
    cell: np.ndarray


def near(x: np.ndarray, train: np.ndarray, centres: np.ndarray) -> Near:
    """Find the nearest training items of features x (N, D).

    The cell of an item is the index of the nearest of `centres` (K, D).
    """
    distance, index = (a[:, 0] for a in nearest(x, train))
    asked, back = np.unique(index, return_inverse=True)
    others = nearest(train[asked], train, 2)[0][:, 1]  # the first is the item itself
    return Near(distance, index, distance > others[back], nearest(x, centres)[1][:, 0])


def centres(train: np.ndarray, cells: int) -> np.ndarray:
    """Return the centres of `cells` cells by k-means on at most 5,000 training items.

    The result is deterministic.
    """
    from sklearn.cluster import KMeans  # takes half a second to import

    pick = np.random.Generator(np.random.Philox(key=0)).permutation(len(train))[:MOST_FITTED]
    return KMeans(cells, random_state=0).fit(train[pick]).cluster_centers_


def z_score(a: np.ndarray, b: np.ndarray) -> float:
    """Return the z-score of the Mann-Whitney test (1947) of `a` (N,) against `b` (M,).

    It is (U - N M / 2) / sqrt(N M (N + M + 1) / 12), where U is the number of pairs with a > b and
    ties count one half; values below 0 mean that `a` is smaller.
    """
    n, m, order = len(a), len(b), np.sort(b)
    u = (np.searchsorted(order, a, "left") + np.searchsorted(order, a, "right")).sum() / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def data_copying(ours: Arrays, theirs: Arrays) -> float:
    """Return C_T of samples against held-out items, from `distance` and `cell` (arXiv:2004.05675).

    It is the mean of `z_score` over cells, weighted by their held-out items; cells without items of
    both kinds are left out. Values far below 0 mean that samples are nearer to training items than
    held-out items are.
    """
    cells, counts = np.unique(theirs["cell"], return_counts=True)
    of = lambda neighbours, cell: neighbours["distance"][neighbours["cell"] == cell]
    pairs = [(of(ours, c), of(theirs, c), n) for c, n in zip(cells, counts, strict=True)]
    scored = [(z_score(a, b), n) for a, b, n in pairs if len(a)]
    if not scored:
        raise ValueError("memorization: no cell has both samples and held-out items; use cells=1")
    scores, weights = zip(*scored, strict=True)
    return float(np.average(scores, weights=weights))


def compared(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Compare samples with held-out items by their distances to the nearest training items.

    The results are the medians of these distances and their `ratio`, `closer`, the share of samples
    nearer to a training item than 99 % of the held-out items are, `authenticity`, the share of
    samples that are farther from the nearest training item than some other training item is
    (arXiv:2102.08921), and `c_t`. Copies have values far below 1 (`ratio`), 0.5 (`authenticity`)
    and 0 (`c_t`). Raises ValueError where held-out items are copies.
    """
    a, b = (float(np.median(neighbours["distance"])) for neighbours in (ours, theirs))
    if b <= 0:
        raise ValueError(
            "most held-out items are also training items: memorization has no baseline"
        )
    closer = ours["distance"] < np.quantile(theirs["distance"], 0.01)
    return {
        "samples": a,
        "held_out": b,
        "ratio": a / b,
        "closer": float(closer.mean()),
        "authenticity": float(ours["authentic"].mean()),
        "authenticity_held_out": float(theirs["authentic"].mean()),
        "c_t": data_copying(ours, theirs),
    }


def _cells_of(counts: Counts, cells: int = 0, **_: Any) -> None:
    """Raise ValueError for nothing held out, and for more cells than they have items."""
    if not counts.held_out:
        raise ValueError("there are no held-out items; allowed: the other metrics")
    if cells > (most := min(counts.real, MOST_FITTED)):
        raise ValueError(f"cells={cells}: needs at most {most}, the number of training items")


@counting(_cells_of)
def memorization(
    real: Real, samples: Samples, cells: int = 0, pairs: int = 20, resamples: int = 20
) -> dict[str, Any]:
    """Measure memorization: distances to training items, authenticity and C_T, as in `compared`.

    The values are in pixels and, under `features`, in the features of the extractor if that is
    another one. cells: number of cells of C_T, by default one per 50 held-out items and at most 10.
    pairs: number of closest pairs in the picture that is written to the folder of `real`. Raises
    ValueError without held-out items.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> copies = Samples(real.train.x, real.train.label)
    >>> memorization(real, copies, resamples=0)["ratio"]
    0.0
    """
    real.train.form.refuse_gaps("memorization")
    if not len(real.test):
        raise ValueError("memorization: no held-out items; allowed: the other metrics")
    cells = cells or max(1, min(10, len(real.test) // 50))
    values = real.train.form.items.values
    plain = [values(x) for x in (samples.x, real.train.x, real.test.x)]
    measured = _within(real, samples, "pixels", plain, cells, pairs, resamples)
    if not real.extractor.fingerprint:  # no network: these are the pixels
        return measured
    seen = [real.need(samples, "pool"), real.features, real.held_out]
    name = real.extractor.name
    return measured | {"features": _within(real, samples, name, seen, cells, pairs, resamples)}


def _within(
    real: Real,
    samples: Samples,
    space: str,
    items: list[np.ndarray],
    cells: int,
    pairs: int,
    resamples: int,
) -> dict[str, Any]:
    """Compare samples, training and held-out items in one space of features."""
    x, train, test = items
    middle = centres(train, cells)
    ours, theirs = near(x, train, middle), near(test, train, middle)._asdict()
    values = lambda rows: compared({k: v[rows] for k, v in ours._asdict().items()}, theirs)
    measured = with_intervals(values, len(x), resamples, samples.label, shares=SHARES, fixed=FIXED)
    measured |= {"cells": cells}
    if not pairs or real.train.form.items.together:
        return measured
    return measured | {"picture": _draw(real, samples, space, ours, pairs)}


def _draw(real: Real, samples: Samples, space: str, closest: Near, pairs: int) -> str:
    """Draw the closest pairs as a picture named by its samples; return its path in the folder."""
    from diffjax import plot

    order = np.argsort(closest.distance, kind="stable")[:pairs]
    tiles = real.train.form.items.tiles
    x, train = tiles(samples.x[order]), tiles(real.train.x[closest.index[order]])
    sha = hashlib.sha256(np.ascontiguousarray(samples.x).tobytes()).hexdigest()[:12]
    name = f"closest-{space}-{sha}.png"
    if first():
        plot.save(real.folder / name, plot.closest(x, train, closest.distance[order]))
    return name
