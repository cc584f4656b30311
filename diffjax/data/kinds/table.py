"""Rows of a table: numbers and categories in named columns, about unit variance.

A number is stored as (value - mean) / std. A category of K levels is stored as K values, 1 for its
level and -1 for the other levels. units["columns"] states the encoding of each column by name, in
order: `{"mean": 3.9, "std": 1.2}` or `{"levels": ["low", "high"]}`. Files and pictures show the
original values.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.kinds import drawing, figures
from diffjax.data.kinds.kind import Files, Kind, Texts, Units

Column = Mapping[str, Any]
"""The encoding of a column: its mean and std, or its levels."""


def encoded(values: Sequence[str], column: Column) -> np.ndarray:
    """Encode the texts of a column as floats (N, 1), or (N, K) for a category of K levels.

    Raises ValueError for an unknown level, and for a text that is not a number.
    """
    if "levels" not in column:
        return ((np.array(values, np.float64) - column["mean"]) / column["std"])[:, None]
    index = {level: k for k, level in enumerate(column["levels"])}
    if unknown := [v for v in values if v not in index]:
        raise ValueError(f"{unknown[0]!r}: no such level; known: {', '.join(index)}")
    return np.where(np.arange(len(index)) == np.array([[index[v]] for v in values]), 1.0, -1.0)


def decoded(x: np.ndarray, units: Units) -> dict[str, np.ndarray]:
    """Decode rows x (N, D) to columns (N,) by name: floats in their units, levels as texts."""
    columns, at = {}, 0
    for name, column in described(units, x.shape[1]).items():
        if "levels" in column:
            levels = np.array(column["levels"])
            columns[name] = levels[x[:, at : at + len(levels)].argmax(1)]
            at += len(levels)
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
