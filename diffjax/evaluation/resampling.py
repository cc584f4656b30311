"""What resampled samples tell of a metric: its interval, and its value for infinitely many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

Rows = np.ndarray | slice
"""Which samples."""
WIDTH = 1.96
"""Standard errors each side of the value in which 95 % of a normal law lie."""

FEWEST = 20
"""Samples from which a value for infinitely many is extrapolated."""


def with_intervals(
    values: Callable[[Rows], Mapping[str, float]],
    count: int,
    resamples: int,
    label: np.ndarray | None = None,
    seed: int = 0,
    shares: Collection[str] = (),
    fixed: Collection[str] = (),
) -> dict[str, Any]:
    """`values` of all `count` samples, and as `intervals` a 95 % interval [low, high] around each.

    label (N,): the classes asked for. A resample takes one of each random pair, of equal labels
    where there are any: of half the size, and half of it given, it varies by one standard error of
    the whole (McCarthy 1969, half samples). Drawn with replacement, copies would be neighbours at
    distance 0, and covariances lose dimensions. A bias of the value is not in the interval.
    shares: values that are shares of samples. Their interval ends at 0 and at 1; that of one which
    no resample changes reaches as far as Wilson's (1927) of 0 among `count`, for none of few
    samples does not mean none at all. fixed: values that do not depend on the samples, and have no
    interval. resamples=0: no intervals. Raises ValueError for 1 or less than 0.
    """
    if resamples < 0 or resamples == 1:
        raise ValueError(f"resamples={resamples}: needs at least 2, or 0 for no intervals")
    whole = dict(values(slice(None)))
    if not resamples:
        return whole
    label = np.zeros(count) if label is None else label
    rng, drawn = np.random.Generator(np.random.Philox(key=seed)), []
    for _ in range(resamples):
        order = rng.permutation(count)
        order = order[np.argsort(label[order], kind="stable")]
        pairs = order[: count // 2 * 2].reshape(-1, 2)
        drawn.append(values(np.sort(rng.permuted(pairs, axis=1)[:, 0])))
    half = {k: WIDTH * float(np.std([d[k] for d in drawn], ddof=1)) for k in {*whole} - {*fixed}}
    around = {k: [v - half[k], v + half[k]] for k, v in whole.items() if k in half}
    for k in shares:
        width = half[k] or WIDTH**2 / (count + WIDTH**2)
        around[k] = [max(whole[k] - width, 0.0), min(whole[k] + width, 1.0)]
    return whole | {"intervals": around}


def extrapolated(
    value: Callable[[np.ndarray], float], count: int, points: int = 15, seed: int = 0
) -> float:
    """The value for infinitely many samples: a line in 1 / N through those of random subsets.

    FID and Inception score have a bias in 1 / N to first order (arXiv:1911.07023). value: of the
    samples at these places, among `count`. Sizes are from a tenth to all, evenly spaced. Raises
    ValueError for fewer than 2 points or 20 samples.
    """
    if points < 2 or count < FEWEST:
        raise ValueError(f"a line through {points} sizes of {count} samples: needs 2 and {FEWEST}")
    rng = np.random.Generator(np.random.Philox(key=seed))
    sizes = np.linspace(count // 10, count, points).astype(int)
    values = [value(rng.permutation(count)[:size]) for size in sizes]
    return float(np.polyfit(1 / sizes, values, 1)[1])
