"""Confidence intervals of metrics by resampling, and extrapolation to infinitely many samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

Rows = np.ndarray | slice
"""An index of samples."""
WIDTH = 1.96
"""Half the width of a 95 % interval of a normal distribution, in standard errors."""

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
    """Return `values` of all `count` samples, with a 95 % interval [low, high] around each.

    The intervals, under `intervals`, come from half samples (McCarthy 1969): a resample takes one
    of each random pair, of equal labels where there are labels. It has half the size and is drawn
    without replacement, and the two factors cancel: its value varies by one standard error of the
    whole. A bootstrap would draw copies, which are neighbours at distance 0 and make covariances
    lose dimensions. A bias of the value is not part of the interval.

    label: (N,), the classes of the samples, or None. resamples: number of resamples, 0 for no
    intervals. shares: values that are shares of samples, whose interval is clipped to [0, 1]. One
    that no resample changes gets Wilson's interval (1927) of 0 among `count`, since none among few
    samples does not mean none at all. fixed: values that do not depend on the samples and have no
    interval. Raises ValueError for resamples = 1 or below 0.
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
    """Extrapolate a value to infinitely many samples by a line in 1 / N through random subsets.

    FID and Inception score have a bias in 1 / N to first order (arXiv:1911.07023). value: a
    function of the indices of samples among `count`. Sizes are evenly spaced from a tenth to all.
    Raises ValueError for fewer than 2 points or 20 samples.
    """
    if points < 2 or count < FEWEST:
        needs = f"at least 2 sizes and {FEWEST} samples"
        raise ValueError(f"a line through {points} sizes of {count} samples: needs {needs}")
    rng = np.random.Generator(np.random.Philox(key=seed))
    sizes = np.linspace(count // 10, count, points).astype(int)
    values = [value(rng.permutation(count)[:size]) for size in sizes]
    return float(np.polyfit(1 / sizes, values, 1)[1])
