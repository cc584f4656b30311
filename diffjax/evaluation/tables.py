"""Metrics of rows of tables: their columns, their correlations and what can be learnt from them.

Values are compared in the units of the columns, on the host, in float64. The floor of a value is
what training rows, as many as there are samples, have in place of the samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.data.kinds.table import decoded, described
from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.neighbours import nearest
from diffjax.evaluation.resampling import Rows, with_intervals
from diffjax.evaluation.samples import Real, Samples

Columns = dict[str, np.ndarray]


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference of the distribution functions of two sets of numbers.

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    0.5
    """
    at = np.concatenate([a, b])
    share = lambda x: np.searchsorted(np.sort(x), at, side="right") / len(x)
    return float(np.abs(share(a) - share(b)).max())


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Return half the sum of the differences of the shares of each level.

    >>> total_variation(np.array(["x", "y"]), np.array(["x", "x"]))
    0.5
    """
    levels = np.unique(np.concatenate([a, b]))
    return float(sum(abs((a == k).mean() - (b == k).mean()) for k in levels) / 2)


def column_distances(a: Columns, b: Columns) -> dict[str, float]:
    """Return the distance of each column: of numbers by KS, of categories by total variation.

    >>> column_distances({"a": np.array([1.0, 2.0])}, {"a": np.array([1.0, 3.0])})
    {'a': 0.5}
    """
    distance = lambda x: kolmogorov_smirnov if x.dtype.kind == "f" else total_variation
    return {name: distance(x)(x, b[name]) for name, x in a.items()}


def correlation_error(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest absolute difference of two matrices of correlations.

    a, b: (N, D) and (M, D). A value that is the same in all rows of one of them has correlation 0.

    >>> x = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> round(correlation_error(x, x * [1, -1]), 6)
    2.0
    """
    return float(np.abs(_correlations(a) - _correlations(b)).max())


def _correlations(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0, dtype=np.float64)
    norms = np.sqrt((centred**2).sum(0))
    scaled = centred / np.where(norms > 1e-9, norms, np.inf)
    return scaled.T @ scaled + np.diag((norms <= 1e-9).astype(float))


def _rows(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no rows of a table, and for nothing held out."""
    needs(counts, "table", "rows of a table")


def _columns(real: Real, x: np.ndarray, metric: str) -> Columns:
    """Return the columns of rows; raise ValueError where the data are no table."""
    form = real.train.form
    form.refuse_gaps(metric)
    if form.kind != "table":
        raise ValueError(f"{metric}: needs rows of a table; the items are {form.kind}")
    return decoded(x, dict(form.units))


def _like(real: Real, count: int) -> np.ndarray:
    """Return training rows, `count` or all, drawn without replacement."""
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(real.train.x))
    return real.train.x[order[:count]]


@counting(_rows)
def columns(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the distance of each column of a table to that of held-out rows.

    `largest` and `mean` are over the columns: Kolmogorov-Smirnov for numbers, total variation for
    categories, each under `by_column`. `correlation` is the largest error of a correlation between
    two values of a row. `floor_` is each of these for training rows, as many as there are samples.
    Raises ValueError for data that are no table, and without held-out rows.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    >>> real = Real(lambda split: data.Memory(x, kind="table"), data.Reading(), 40, Path())
    >>> columns(real, Samples(real.test.x, None), resamples=0)["largest"]
    0.0
    """
    held, test = _columns(real, real.test.x, "columns"), real.test.x

    def values(x: np.ndarray) -> dict[str, float]:
        each = column_distances(_columns(real, x, "columns"), held)
        return {
            "largest": max(each.values()),
            "mean": float(np.mean([*each.values()])),
            "correlation": correlation_error(x, test),
        }

    floor = values(_like(real, len(samples.x)))
    found = with_intervals(lambda r: values(samples.x[r]), len(samples.x), resamples)
    each = column_distances(_columns(real, samples.x, "columns"), held)
    return found | {f"floor_{k}": v for k, v in floor.items()} | {"by_column": each}


@counting(_rows)
def closest_record(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the median distance of samples to the closest training row, beside held-out rows.

    Distances are those of the encoded rows. `ratio` is the median over that of held-out rows, whose
    value copies have far below 1. `copies` is the share of samples nearer than 1e-6, and
    `copies_held_out` that of held-out rows, which repeat training rows. Raises ValueError for data
    that are no table, and without held-out rows.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> x = np.random.default_rng(0).normal(size=(2, 40, 2)).astype(np.float32)
    >>> rows = lambda split: data.Memory(x[int(split == "test")], kind="table")
    >>> real = Real(rows, data.Reading(), 40, Path())
    >>> closest_record(real, Samples(real.train.x, None), resamples=0)["copies"]
    1.0
    """
    _columns(real, real.train.x[:1], "closest_record")
    ours, theirs = (nearest(x, real.train.x)[0][:, 0] for x in (samples.x, real.test.x))
    floor = float(np.median(theirs))

    def values(rows: Rows) -> dict[str, float]:
        median = float(np.median(ours[rows]))
        return {"distance": median, "copies": float((ours[rows] < 1e-6).mean())}

    found = with_intervals(values, len(ours), resamples, shares=("copies",))
    ratio = found["distance"] / floor if floor else None
    repeated = float((theirs < 1e-6).mean())
    return found | {"held_out": floor, "ratio": ratio, "copies_held_out": repeated}


@counting(_rows)
def downstream(
    real: Real, samples: Samples, target: str = "", log: bool = False, most: int = 50_000
) -> dict[str, Any]:
    """Measure how well a model that is trained on samples predicts a column of held-out rows.

    `score` is R^2 for a column of numbers, accuracy for a category, of gradient boosting
    (scikit-learn's HistGradientBoosting). `real` is the score after training on as many real rows,
    and `shuffled` after training on samples whose columns are shuffled. target: a column, by
    default the last one. log: predict the logarithm of numbers. most: the largest number of rows to
    train on. Raises ValueError for data that are no table, for an unknown target, for numbers
    without a logarithm, and without held-out rows.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> x = np.repeat(np.linspace(-1, 1, 200, dtype=np.float32)[:, None], 2, 1)  # twice the same
    >>> real = Real(lambda split: data.Memory(x, kind="table"), data.Reading(), 200, Path())
    >>> found = downstream(real, Samples(x, None))
    >>> found["target"], found["score"] > 0.9 > found["shuffled"]
    ('x1', True)
    """
    import sklearn.ensemble  # noqa: F401  it loads the library whose threads are limited
    from threadpoolctl import threadpool_limits

    held = _columns(real, real.test.x, "downstream")
    target = target or [*held][-1]
    if target not in held:
        raise ValueError(f"downstream: target={target!r}: no such column; known: {', '.join(held)}")
    if log and held[target].dtype.kind != "f":
        raise ValueError(f"downstream: log=True: {target} is a category; needs a column of numbers")
    if log and held[target].min() <= 0:
        raise ValueError(f"downstream: log=True: {target} is {held[target].min():g} in a row")
    count = min(len(samples.x), len(real.train.x), most)
    made, true = (_columns(real, x, "downstream") for x in (samples.x[:count], _like(real, count)))
    rng = np.random.Generator(np.random.Philox(key=0))
    shuffled = {name: rng.permutation(x) for name, x in made.items()}
    kinds = described(dict(real.train.form.units), real.train.shape[0])
    score = lambda train: _score(train, held, target, kinds, log)
    with threadpool_limits(1, "openmp"):  # threads wait for each other where other work runs
        scores = {
            "score": score(made),
            "real": score(true),
            "shuffled": score(shuffled),
        }
    return scores | {"target": target, "rows": count}


def _score(train: Columns, test: Columns, target: str, kinds: Any, log: bool) -> float:
    """Return the score on the target of `test` of a model that is trained on `train`."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    names = [name for name in train if name != target]
    levels = lambda name: {level: i for i, level in enumerate(kinds[name].get("levels", ()))}
    coded = lambda of, name: (
        np.array([levels(name)[v] for v in of[name]]) if levels(name) else of[name]
    )
    inputs = lambda of: np.stack([coded(of, name) for name in names], 1).astype(np.float64)
    categories: Any = [bool(levels(name)) for name in names]
    if levels(target):
        if len({*train[target]}) < 2:  # a constant prediction needs no model
            return float((test[target] == train[target][0]).mean())
        model = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
        return float(model.fit(inputs(train), train[target]).score(inputs(test), test[target]))
    truth = np.log(test[target]) if log else test[target]
    keep = train[target] > 0 if log else slice(None)
    learnt = np.log(train[target][keep]) if log else train[target]
    model = HistGradientBoostingRegressor(categorical_features=categories, random_state=0)
    return float(model.fit(inputs(train)[keep], learnt).score(inputs(test), truth))
