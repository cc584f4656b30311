"""Metrics of forecasts: samples with the conditions of a held-out item are its ensemble.

Beside each score stand those of the true ensemble, where the source knows the law of its items
(`data.source.Simulated`), of climatology, which is an ensemble of training items, those with the
label of the outcome where items have labels, and of persistence, the condition `map` as a forecast.
Where the condition `known` states a part of the item (`data.hidden`), only the other values count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffjax.data.form import KNOWN
from diffjax.evaluation import forecasts
from diffjax.evaluation.beforehand import Counts, counting, taking
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.retrieval import check_asked
from diffjax.evaluation.samples import Real, Samples

MOST = 100
"""Largest number of training items of climatology."""
PERSISTENT = "map"
"""Name of the condition that persistence forecasts."""
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(ensembles (M, B, D), outcomes (B, D), which values count (B, D)) -> scores (B,)."""


def _members(counts: Counts, **_: Any) -> None:
    """Raise ValueError for fewer than two samples of each held-out item, and as `check_asked`."""
    check_asked(counts)
    if counts.cases and counts.samples < 2 * counts.cases:
        raise ValueError(
            f"there are {counts.samples} samples of {counts.cases} held-out items; needs at least "
            f"{2 * counts.cases}, two members of each ensemble"
        )


def grouped(samples: Samples, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ensembles (M, B, D) of samples, and the held-out items (B,) they are of.

    M is the number of samples of the item with the fewest; later samples are left out. Raises
    ValueError for samples that were not made for held-out items, and where M is below 2.

    >>> x = np.arange(5.0)[:, None]
    >>> members, cases = grouped(Samples(x, None, asked=np.array([0, 7, 0, 7, 0])), "crps")
    >>> members[..., 0].tolist(), cases.tolist()
    ([[0.0, 1.0], [2.0, 3.0]], [0, 7])
    """
    if samples.asked is None:
        raise ValueError(f"{metric}: the samples were not made for held-out items")
    cases, count = np.unique(samples.asked, return_counts=True)
    least = int(count.min())
    if least < 2:
        raise ValueError(f"{metric}: an item has {least} sample; needs at least two of each")
    order = np.argsort(samples.asked, kind="stable")
    starts = np.concatenate([[0], np.cumsum(count)[:-1]])
    rows = order[starts + np.arange(least)[:, None]]
    return samples.x[rows].reshape(*rows.shape, -1).astype(np.float64), cases


def outcomes(real: Real, cases: np.ndarray) -> np.ndarray:
    """Return the held-out items (B, D) of these numbers, with 0 in gaps, which do not count."""
    return np.nan_to_num(real.test.x[cases].reshape(len(cases), -1).astype(np.float64))


def hidden(real: Real, cases: np.ndarray) -> np.ndarray:
    """Return which values (B, D) of these held-out items count: those there that are not known."""
    known = real.test.cond.get(KNOWN)
    if known is None:
        return np.ones((len(cases), real.test.x[0].size), bool)
    there = ~np.isnan(real.test.x[cases])
    return (np.isnan(known[cases]) & there).reshape(len(cases), -1)


def true_ensemble(real: Real, cases: np.ndarray, members: int) -> np.ndarray | None:
    """Return the true ensemble (M, B, D), None where the source does not know its law."""
    if real.law is None:
        return None
    return np.float64(real.law.ensemble(cases, members)).reshape(members, len(cases), -1)


class Cases(NamedTuple):
    """The ensembles (M, B, D) of held-out items, with what stands beside them.

    cases: the numbers (B,) of the items. y: the outcomes (B, D). true: the true ensemble (M, B, D),
    or None. counts: which values count (B, D).
    """

    x: np.ndarray
    cases: np.ndarray
    y: np.ndarray
    true: np.ndarray | None
    counts: np.ndarray


def cases_of(real: Real, samples: Samples, metric: str, most: int | None = None) -> Cases:
    """Return the ensembles of samples with at most `most` members; see `grouped`."""
    x, cases = grouped(samples, metric)
    x = x[:most]
    true = true_ensemble(real, cases, len(x))
    return Cases(x, cases, outcomes(real, cases), true, hidden(real, cases))


def climatology(real: Real, cases: np.ndarray, score: Score) -> np.ndarray:
    """Return the score of ensembles of training items, (B,).

    They are at most MOST items with the label of the outcome, or of all items without labels. A
    missing value is that of another one of them.
    """
    test, y = real.test, outcomes(real, cases)
    own = test.labels()[cases] if test.form.classes else np.zeros(len(cases), int)
    of = real.train.labels()
    rng, out = np.random.Generator(np.random.Philox(key=0)), np.empty(len(cases))
    counts = hidden(real, cases)
    for label in np.unique(own).tolist():
        alike = np.flatnonzero(of == label)
        if len(alike) < 2:
            raise ValueError(f"climatology: label {label} has {len(alike)} training items; needs 2")
        chosen = rng.permutation(alike)[:MOST]
        here = np.flatnonzero(own == label)
        x = _filled(real.train.x[chosen].reshape(len(chosen), -1).astype(np.float64))[:, None]
        members = np.broadcast_to(x, (len(chosen), *y[here].shape))
        out[here] = score(members, y[here], counts[here])
    return out


def _filled(x: np.ndarray) -> np.ndarray:
    """Return items (N, D) whose gaps are filled by the value of another item, in turn."""
    for column in x.T:
        there = np.flatnonzero(~np.isnan(column))
        column[np.isnan(column)] = np.resize(column[there], len(column) - len(there))
    return x


def persistence(real: Real, cases: np.ndarray, score: Score) -> np.ndarray | None:
    """Return the score of the condition `map` as a forecast, (B,), None where it is no item.

    A forecast without spread has two equal members, whose score is the error.
    """
    now = real.test.cond.get(PERSISTENT)
    if now is None or now.shape != real.test.x.shape:
        return None
    x = now[cases].reshape(1, len(cases), -1).astype(np.float64)
    return score(np.repeat(x, 2, 0), outcomes(real, cases), hidden(real, cases))


def _scored(real: Real, samples: Samples, resamples: int, metric: str, score: Score) -> Any:
    """Return the mean score of ensembles, with those that stand beside it."""
    x, cases, y, true, counts = cases_of(real, samples, metric)
    each = {
        "score": score(x, y, counts),
        "floor": None if true is None else score(true, y, counts),
        "climatology": climatology(real, cases, score),
        "persistence": persistence(real, cases, score),
    }

    def values(rows: Any) -> dict[str, float]:
        means = {k: float(v[rows].mean()) for k, v in each.items() if v is not None}
        if "floor" in means:
            means["ratio"] = means["score"] / means["floor"]
        return means | {"skill": 1 - means["score"] / means["climatology"]}

    return with_intervals(values, len(cases), resamples) | {"members": len(x), "cases": len(cases)}


@taking("gaps")
@counting(_members)
def crps(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the fair CRPS of forecasts, beside climatology and persistence.

    `score` is the mean over values and held-out items, in the units of the network; see
    `forecasts.crps`. `floor` is that of the true ensemble, where it is known, and `ratio` the score
    over it; `skill` is 1 - score / climatology. Intervals are over the held-out items. Raises
    ValueError for samples that were not made for held-out items, at least two for each.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> source = functools.partial(data.lorenz96, size=200)
    >>> real = Real(source, data.Reading(), 200, Path())
    >>> asked = np.arange(40) % 20
    >>> true = source("test").ensemble(asked, 1)[0]
    >>> found = crps(real, Samples(true, None, asked), resamples=0)
    >>> found["score"] < 0.2 * found["climatology"] < found["persistence"]
    True
    """
    total = lambda x, y, counts: (forecasts.crps(x, y) * counts).sum(1)
    score = lambda x, y, counts: total(x, y, counts) / np.maximum(counts.sum(1), 1)
    return _scored(real, samples, resamples, "crps", score)


@taking("gaps")
@counting(_members)
def energy(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the fair energy score of forecasts, which sees values together.

    It is that of `crps` with the norm of whole items, divided by the root of their number of
    values; the results have the same names.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> source = functools.partial(data.lorenz96, size=200)
    >>> real = Real(source, data.Reading(), 200, Path())
    >>> asked = np.arange(40) % 20
    >>> true = source("test").ensemble(asked, 1)[0]
    >>> energy(real, Samples(true, None, asked), resamples=0)["skill"] > 0.5
    True
    """
    size = lambda counts: np.sqrt(np.maximum(counts.sum(1), 1))
    of = lambda x, y, counts: forecasts.energy_score(np.where(counts, x, y), y)
    score = lambda x, y, counts: of(x, y, counts) / size(counts)
    return _scored(real, samples, resamples, "energy", score)


@taking("gaps")
@counting(_members)
def spread_skill(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the spread of ensembles over the error of their mean, 1 where both agree.

    `ratio` is below 1 for forecasts that are too sure; see `forecasts.spread_skill`. `floor` is
    that of the true ensemble, where it is known, with as many members, and `rmse` the error of the
    mean. Raises ValueError as `crps` does.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> source = functools.partial(data.lorenz96, size=200)
    >>> real = Real(source, data.Reading(), 200, Path())
    >>> asked = np.arange(400) % 20
    >>> true = source("test").ensemble(asked, 1)[0]
    >>> 0.9 < spread_skill(real, Samples(true, None, asked), resamples=0)["ratio"] < 1.1
    True
    """
    x, cases, y, true, counts = cases_of(real, samples, "spread_skill")
    part = lambda a, rows: a[..., rows, :][..., counts[rows]]
    of = lambda e, rows: forecasts.spread_skill(part(e, rows), part(y, rows))
    squared = (x.mean(0) - y) ** 2

    def values(rows: Any) -> dict[str, float]:
        found = {"ratio": of(x, rows)}
        if true is not None:
            found["floor"] = of(true, rows)
        return found | {"rmse": float(np.sqrt(squared[rows][counts[rows]].mean()))}

    return with_intervals(values, len(cases), resamples) | {"members": len(x), "cases": len(cases)}


@taking("gaps")
@counting(_members)
def rank_histogram(
    real: Real, samples: Samples, members: int = 19, resamples: int = 20
) -> dict[str, Any]:
    """Measure how far ranks of outcomes among members are from uniform.

    `distance` is the total variation, 0 for flat histograms; that of flat ranks of independent
    values is not 0 but as `floor`, that of the true ensemble, where it is known. `shares` are those
    of the ranks 0 to `members`, the largest number of members, and `floor_shares` those of the true
    ensemble. Both are drawn by `evaluate`. Raises ValueError as `crps` does.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> source = functools.partial(data.lorenz96, size=200)
    >>> real = Real(source, data.Reading(), 200, Path())
    >>> asked = np.arange(80) % 20
    >>> true = source("test").ensemble(asked, 1)[0]
    >>> found = rank_histogram(real, Samples(true, None, asked), resamples=0)
    >>> len(found["shares"]), found["distance"] < 0.1
    (5, True)
    """
    x, cases, y, true, counts = cases_of(real, samples, "rank_histogram", max(members, 2))
    apart = lambda shares: float(np.abs(shares - 1 / len(shares)).sum() / 2)
    part = lambda a, rows: a[..., rows, :][..., counts[rows]]
    of = lambda e, rows: forecasts.rank_histogram(part(e, rows), part(y, rows))

    def values(rows: Any) -> dict[str, float]:
        found = {"distance": apart(of(x, rows))}
        return found if true is None else found | {"floor": apart(of(true, rows))}

    found = with_intervals(values, len(cases), resamples)
    found["shares"] = of(x, slice(None)).tolist()
    if true is not None:
        found["floor_shares"] = of(true, slice(None)).tolist()
    return found
