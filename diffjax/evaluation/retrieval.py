"""Retrieval: whether a sample shows the item whose conditions, such as a caption, it had."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.evaluation.beforehand import Counts, counting
from diffjax.evaluation.neighbours import squares
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Real, Samples

FEW = 10
"""Ranks that count as found."""


def ranks(x: np.ndarray, true: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the rank (N,) of the true item of each sample among candidates, from 1.

    It is 1 + the number of candidates that are nearer to the sample than its true item. x, true:
    (N, D). candidates: (M, D), the true items among them, or not.

    >>> items = np.array([[0.0], [100.0], [200.0]])
    >>> ranks(np.array([[90.0], [90.0]]), items[[1, 2]], items).tolist()
    [1, 3]
    """
    x, true = np.asarray(x, np.float64), np.asarray(true, np.float64)
    own, found = ((x - true) ** 2).sum(1), np.ones(len(x), int)
    for rows, _, block in squares(x, np.asarray(candidates, np.float64)):
        # The true item itself, at a distance that is rounded in another way, is not nearer.
        found[rows] += (block < own[rows, None] * (1 - 1e-9) - 1e-9).sum(1)
    return found


def summary(rank: np.ndarray) -> dict[str, float]:
    """Return the quartiles of ranks, and the share of the first FEW, `found`.

    >>> summary(np.array([1, 3, 50]))["median"]
    3.0
    """
    low, middle, high = np.quantile(rank, (0.25, 0.5, 0.75)).tolist()
    return {"median": middle, "low": low, "high": high, "found": float((rank <= FEW).mean())}


NEEDS = (
    "the samples have no conditions of held-out items; needs a network with conditions besides the "
    "label, such as captions, and its own data"
)


def check_asked(counts: Counts, **_: Any) -> None:
    """Raise ValueError for samples that have no conditions of held-out items."""
    if not counts.cases:
        raise ValueError(NEEDS)


@counting(check_asked)
def retrieval(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the rank of the held-out item whose conditions a sample had, among all real items.

    Items are sorted by the distance of their features to those of the sample: the item that was
    asked for comes first where a network draws it, and half-way on average where the network
    ignores its conditions, such as captions. `found` is the share of ranks up to 10, `of` the
    number of items. Raises ValueError for samples that were not made for held-out items.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> copies = Samples(real.test.x, None, asked=np.arange(len(real.test.x)))
    >>> retrieval(real, copies, resamples=0)["median"]
    1.0
    """
    if samples.asked is None:
        raise ValueError(f"retrieval: {NEEDS}")
    items = np.concatenate([real.held_out, real.features])
    rank = ranks(real.of(samples)["pool"], real.held_out[samples.asked], items)
    values = lambda rows: summary(rank[rows])
    measured = with_intervals(values, len(rank), resamples, samples.label, shares=("found",))
    return measured | {"of": len(items)}
