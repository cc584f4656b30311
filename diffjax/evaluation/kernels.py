"""Maximum mean discrepancies of features, in float64 on the host.

They have unbiased estimates and do not assume Gaussian features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.evaluation.neighbours import squares
from diffjax.evaluation.resampling import Rows, with_intervals
from diffjax.evaluation.samples import Real, Samples


def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cubic kernel (x.y / D + 1)^3 of all pairs, (N, M)."""
    similarity = x @ y.T / x.shape[1] + 1
    return similarity * similarity * similarity


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared discrepancy by `cubic`, which may be < 0 (arXiv:1801.01401)."""
    others = lambda a: (cubic(a, a).sum() - cubic_norms(a)) / (len(a) * (len(a) - 1))
    return float(others(x) + others(y) - 2 * cubic(x, y).mean())


def cubic_norms(x: np.ndarray) -> float:
    """Return the sum of `cubic` of each item with itself."""
    return float((((x**2).sum(1) / x.shape[1] + 1) ** 3).sum())


def kernel_distance(
    real: np.ndarray, fake: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the mean and standard deviation of `unbiased` over random pairs of subsets.

    Subsets have `size` items, or all where there are fewer. Raises ValueError for fewer than two
    items.
    """
    size = min(size, len(real), len(fake))
    if size < 2 or subsets < 1:
        raise ValueError(f"{subsets} subsets of {size} items: needs at least 1 subset of 2 items")
    rng = np.random.Generator(np.random.Philox(key=seed))
    draw = lambda x: np.asarray(x[rng.choice(len(x), size, replace=False)], np.float64)
    distances = [unbiased(draw(real), draw(fake)) for _ in range(subsets)]
    return float(np.mean(distances)), float(np.std(distances))


def kid(
    real: Real, samples: Samples, subsets: int = 100, size: int = 1000, resamples: int = 5
) -> dict[str, Any]:
    """Compute the kernel distance of samples to training items, unbiased at any sample count.

    It is KID (arXiv:1801.01401) with the features of Inception: the mean over `subsets` random
    subsets of `size` items with a cubic kernel, and its `deviation` over subsets.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> kid(real, Samples(real.test.x + 3, None), subsets=2, resamples=0)["distance"] > 1
    True
    """
    x = real.need(samples, "pool")

    def values(rows: Rows) -> dict[str, float]:
        mean, deviation = kernel_distance(real.features, x[rows], subsets, size)
        return {"distance": mean, "deviation": deviation}

    return with_intervals(values, len(x), resamples, samples.label) | {"subsets": subsets}


def likeness(x: np.ndarray, y: np.ndarray, sigma: float) -> float:
    """Return the mean of exp(-|x - y|^2 / (2 sigma^2)) over all pairs, self-pairs included."""
    total = sum(float(np.exp(block / (-2 * sigma**2)).sum()) for _, _, block in squares(x, y))
    return total / (len(x) * len(y))


def cmmd(
    real: Real, samples: Samples, sigma: float = 10.0, scale: float = 1000.0, resamples: int = 20
) -> dict[str, Any]:
    """Compute the discrepancy by a Gaussian kernel of unit-length features: CMMD with CLIP's.

    It is `scale` times the squared discrepancy with self-pairs (arXiv:2401.09603). sigma: width of
    the kernel, > 0.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> abs(cmmd(real, Samples(real.train.x, None), resamples=0)["distance"]) < 1e-9
    True
    """
    known, x = _unit(real.features), _unit(real.need(samples, "pool"))
    within_real = likeness(known, known, sigma)

    def values(rows: Rows) -> dict[str, float]:
        within, cross = likeness(x[rows], x[rows], sigma), likeness(x[rows], known, sigma)
        return {"distance": scale * (within_real + within - 2 * cross)}

    return with_intervals(values, len(x), resamples, samples.label)


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
