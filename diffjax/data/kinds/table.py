"""Rows of a table: numbers and categories in named columns, about unit variance.

A number is stored as (value - mean) / std, or as its normal score: z with Phi(z) = F(value), F the
distribution function of the training rows. A category of K levels is stored as K values, 1 for its
level and -1 for the other levels. units["columns"] states the encoding of each column by name, in
order: `{"mean": 3.9, "std": 1.2}`, `{"scores": [-1.2, 0.0, 1.2], "values": [2.0, 3.5, 9.0]}` or
`{"levels": ["low", "high"]}`. Files and pictures show the original values.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.kinds import drawing, figures
from diffjax.data.kinds.kind import Files, Kind, Texts, Units

Column = Mapping[str, Any]
"""The encoding of a column: its mean and std, its normal scores and their values, or its levels."""

KNOTS = 2000
"""Largest number of points by which a column of normal scores is described."""


def standard(train: np.ndarray) -> Column:
    """Describe numbers (N,) by their mean and standard deviation.

    >>> standard(np.array([1.0, 3.0]))
    {'mean': 2.0, 'std': 1.0}
    """
    return {"mean": float(train.mean()), "std": float(train.std())}


def quantile(train: np.ndarray) -> Column:
    """Describe numbers (N,) by normal scores and their values, both ascending.

    The i-th of N sorted numbers has the score Phi^-1((i + 1/2) / N), from i = 0, and scores between
    two numbers are interpolated. Equal numbers share an interval of scores. Where the column needs
    more than KNOTS points, KNOTS of the sorted numbers stand for all.

    >>> column = quantile(np.array([5.0, 1.0, 1.0, 2.0]))
    >>> column["values"], [round(z, 2) for z in column["scores"]]
    ([1.0, 1.0, 2.0, 5.0], [-1.15, -0.32, 0.32, 1.15])
    """
    from scipy.special import ndtri

    values = np.sort(train)
    index = _ends(values, np.arange(len(values)))
    if len(index) > KNOTS:
        index = _ends(values, np.linspace(0, len(values) - 1, KNOTS).round().astype(int))
    return {
        "scores": ndtri((index + 0.5) / len(values)).tolist(),
        "values": values[index].tolist(),
    }


def _ends(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the indices without those between two equal numbers."""
    chosen = values[index]
    changes = np.concatenate([[True], chosen[1:] != chosen[:-1], [True]])
    return index[np.logical_or(changes[1:], changes[:-1])]


SCALES: Mapping[str, Callable[[np.ndarray], Column]] = {"standard": standard, "quantile": quantile}
"""The ways to describe a column of numbers."""


def encoded(values: Sequence[str], column: Column, spread: np.ndarray | float = 0.5) -> np.ndarray:
    """Encode the texts of a column as floats (N, 1), or (N, K) for a category of K levels.

    A missing cell, an empty text, is NaN in each of its values. spread: in [0, 1], the place of
    each number in the interval of scores that equal numbers share; independent uniform numbers make
    the scores of the training rows normal. Raises ValueError for an unknown level, and for a text
    that is not a number.
    """
    if not all(values):
        there = np.array([bool(v) for v in values])
        out = np.full((len(values), len(column.get("levels", [0]))), np.nan)
        spread = np.broadcast_to(spread, len(values))[there]
        out[there] = encoded([v for v in values if v], column, spread)
        return out
    if "scores" in column:
        return _scores(np.array(values, np.float64), column, spread)[:, None]
    if "levels" not in column:
        return ((np.array(values, np.float64) - column["mean"]) / column["std"])[:, None]
    index = {level: k for k, level in enumerate(column["levels"])}
    if unknown := [v for v in values if v not in index]:
        raise ValueError(f"{unknown[0]!r}: no such level; known: {', '.join(index)}")
    return np.where(np.arange(len(index)) == np.array([[index[v]] for v in values]), 1.0, -1.0)


def _scores(numbers: np.ndarray, column: Column, spread: np.ndarray | float) -> np.ndarray:
    """Return the scores of numbers (N,); outside the training rows they grow at the mean slope."""
    from scipy.special import ndtr, ndtri

    z, v, slope = _map(column)
    left, right = np.searchsorted(v, numbers), np.searchsorted(v, numbers, side="right") - 1
    same = right >= left  # numbers that the description holds; a single one has right == left
    low, high = ndtr(z[np.where(same, left, 0)]), ndtr(z[np.where(same, right, 0)])
    tied = np.where(right > left, ndtri(low + spread * (high - low)), z[np.where(same, left, 0)])
    beyond = (np.minimum(numbers - v[0], 0) + np.maximum(numbers - v[-1], 0)) / slope
    distinct, first = np.unique(v, return_index=True)
    last = len(v) - 1 - np.unique(v[::-1], return_index=True)[1]
    at = np.searchsorted(distinct, numbers).clip(1, len(distinct) - 1)
    share = (numbers - distinct[at - 1]) / (distinct[at] - distinct[at - 1])
    between = z[last[at - 1]] + share * (z[first[at]] - z[last[at - 1]])
    ends = np.where(beyond > 0, z[-1], z[0]) + beyond
    return np.where(same, tied, np.where(beyond == 0, between, ends))


def _numbers(scores: np.ndarray, column: Column) -> np.ndarray:
    """Return the numbers of scores (N,), the inverse of `_scores`."""
    z, v, slope = _map(column)
    beyond = np.minimum(scores - z[0], 0) + np.maximum(scores - z[-1], 0)
    return np.interp(scores, z, v) + beyond * slope


def _map(column: Column) -> tuple[np.ndarray, np.ndarray, float]:
    z, v = np.array(column["scores"]), np.array(column["values"])
    return z, v, (v[-1] - v[0]) / (z[-1] - z[0])


def decoded(x: np.ndarray, units: Units) -> dict[str, np.ndarray]:
    """Decode rows x (N, D) to columns (N,) by name: floats in their units, levels as texts."""
    columns, at = {}, 0
    for name, column in described(units, x.shape[1]).items():
        if "levels" in column:
            levels = np.array(column["levels"])
            columns[name] = levels[x[:, at : at + len(levels)].argmax(1)]
            at += len(levels)
        elif "scores" in column:
            columns[name] = _numbers(x[:, at].astype(np.float64), column)
            at += 1
        else:
            columns[name] = x[:, at].astype(np.float64) * column["std"] + column["mean"]
            at += 1
    return columns


def described(units: Units, width: int) -> Mapping[str, Column]:
    """Return the columns that the units state; plain numbers x0, x1, ... where they state none.

    width: the number of values in a row. Raises ValueError where the columns have another width.
    """
    plain: dict[str, Column] = {f"x{i}": {"mean": 0.0, "std": 1.0} for i in range(width)}
    columns: Mapping[str, Column] = units.get("columns") or plain
    if (said := sum(len(c.get("levels", [0])) for c in columns.values())) != width:
        raise ValueError(f"units['columns']: describe {said} values, and the rows have {width}")
    return columns


def _write(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = decoded(items, units)
    cells = [[f"{v:.9g}" if c.dtype.kind == "f" else v for v in c] for c in columns.values()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([[*columns], *zip(*cells, strict=True)])


def _read(path: Path, shape: tuple[int, ...], units: Units) -> np.ndarray:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    columns = described(units, shape[0])
    if header != [*columns]:
        has, needs = ", ".join(header), ", ".join(columns)
        raise ValueError(f"{path}: has the columns {has}; needs the columns {needs}")
    try:
        cells = zip(*rows, strict=True)
        parts = [encoded(v, c) for v, c in zip(cells, columns.values(), strict=True)]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return np.concatenate(parts, 1).astype(np.float32)


TABLE = Kind(
    name="table",
    axes="(D,)",
    ranks=(1,),
    tiles=lambda x: drawing.lines(x[..., None]),
    together=lambda x, label, units, names: figures.pairs(decoded(x, units), label, names),
    files=(Files(".csv", _write, _read, each=False),),
    noun="row",
)
