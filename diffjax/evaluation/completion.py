"""Whether clouds complete the part of a held-out one that they were given."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.clouds import chamfer, earth_movers
from diffjax.evaluation.resampling import Rows, with_intervals
from diffjax.evaluation.retrieval import check_asked
from diffjax.evaluation.samples import Real, Samples

SEEN = "seen"
"""The condition that holds the points seen of a cloud."""


def missed(seen: np.ndarray, x: np.ndarray) -> float:
    """Return the mean distance of the points seen (m, d) to the nearest point of x (n, d).

    >>> missed(np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]]))
    0.5
    """
    from scipy.spatial.distance import cdist

    return float(cdist(seen, x).min(1).mean())


def distances(x: np.ndarray, true: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Return the distances (N,) of clouds x to the true ones, both (N, n, d), by name.

    `emd` and `chamfer` are those of `evaluation.clouds`, and `missed` is that of the points `seen`
    (N, m, d).

    >>> sorted(distances(np.zeros((1, 2, 3)), np.ones((1, 2, 3)), np.ones((1, 1, 3))))
    ['chamfer', 'emd', 'missed']
    """
    pairs = [*zip(x, true, strict=True)]
    return {
        "emd": np.array([earth_movers(a, b) for a, b in pairs]),
        "chamfer": np.array([chamfer(a, b) for a, b in pairs]),
        "missed": np.array([missed(s, a) for s, a in zip(seen, x, strict=True)]),
    }


def _asked(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no clouds, and as `check_asked` does."""
    needs(counts, "cloud", "clouds of points")
    check_asked(counts)


@counting(_asked)
def completion(
    real: Real, samples: Samples, size: int = 100, resamples: int = 20
) -> dict[str, Any]:
    """Compare clouds with the held-out ones of which they were given the points `seen`.

    `emd` and `chamfer` are the mean distances to the held-out cloud itself, and `missed` is the
    mean distance of the points that were given to the nearest of the sample. `other_` is each
    value for the next held-out cloud in place of the sample. size: the largest number of clouds.
    Raises ValueError for items that are no clouds or have no points `seen`, and for samples that
    were not made for held-out items.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> whole = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    >>> items = data.Memory(whole, kind="cloud", cond={"seen": whole[:, :2]})
    >>> real = Real(lambda split: items, data.Reading(kind="cloud"), 4, Path())
    >>> completion(real, Samples(whole, None, asked=np.arange(4)), resamples=0)["missed"]
    0.0
    """
    if real.test.form.kind != "cloud":
        raise ValueError(f"completion: needs clouds of points; the items are {real.test.form.kind}")
    if SEEN not in real.test.cond:
        raise ValueError(f"completion: needs items with the condition {SEEN}")
    if samples.asked is None:
        raise ValueError("completion: the samples were not made for held-out clouds")
    asked = samples.asked[:size]
    true, seen = real.test.x[asked], real.test.cond[SEEN][asked]
    each = distances(samples.x[: len(asked)], true, seen)
    other = distances(real.test.x[(asked + 1) % len(real.test.x)], true, seen)

    def values(rows: Rows) -> dict[str, float]:
        return {name: float(a[rows].mean()) for name, a in each.items()}

    found = with_intervals(values, len(asked), resamples)
    apart = {f"other_{name}": float(a.mean()) for name, a in other.items()}
    return found | apart | {"of": len(asked)}
