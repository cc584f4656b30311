"""metadata.jsonl or metadata.csv beside images, as folders on model hubs have it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NAMES = ("metadata.jsonl", "metadata.csv")
FILE, LABEL = "file_name", "label"
"""Columns with a meaning: the path of an image, relative to the file, and its class."""


class Table(NamedTuple):
    """Rows by file name: numbers (N, K) of the numeric columns `columns`, NaN where there is none;
    the value of the column `label`, an integer or a name, where there is one; the names of the
    other columns, `texts`."""

    path: Path
    rows: Mapping[str, int]
    columns: tuple[str, ...]
    numbers: np.ndarray
    labels: Sequence[Any] | None
    texts: tuple[str, ...] = ()


def locate(folder: Path) -> Path | None:
    """The metadata file in a folder."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read(path: Path) -> Table:
    """The table in a file; ValueError names the line that cannot be read."""
    rows = _jsonl(path) if path.suffix == ".jsonl" else _csv(path)
    if not rows:
        raise ValueError(f"{path}: holds no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get(FILE), str):
            raise ValueError(f"{path}: row {number} has no {FILE}; it has {', '.join(row)}")
    names = [row[FILE] for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: {FILE}={twice} occurs twice")
    columns = [name for name in dict.fromkeys(k for row in rows for k in row) if name != FILE]
    values = {name: [row.get(name) for row in rows] for name in columns}
    numeric = {k: column for k, v in values.items() if k != LABEL and (column := _numbers(v))}
    return Table(
        path=path,
        rows={name: i for i, name in enumerate(names)},
        columns=tuple(numeric),
        numbers=np.array([*numeric.values()], np.float32).reshape(len(numeric), len(rows)).T,
        labels=_labels(path, values[LABEL]) if LABEL in values else None,
        texts=tuple(name for name in columns if name != LABEL and name not in numeric),
    )


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} holds no fields")
        rows.append(row)
    return rows


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _value(v) for k, v in row.items() if k} for row in csv.DictReader(file)]


def _value(text: str | None) -> Any:
    """A number where the text is one; None where it is empty."""
    if text is None or not text.strip():
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _numbers(values: Sequence[Any]) -> list[float] | None:
    """A column of numbers, NaN where one is missing; None for a column of anything else."""
    number = lambda v: isinstance(v, bool | int | float)
    if not all(v is None or number(v) for v in values) or all(v is None for v in values):
        return None
    return [math.nan if v is None else float(v) for v in values]


def _labels(path: Path, values: Sequence[Any]) -> Sequence[Any]:
    whole = lambda kind: all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not whole(str) and not (whole(int) and min(values) >= 0):
        raise ValueError(f"{path}: {LABEL}: needs a name, or an integer >= 0, in every row")
    return values


def classes(tables: Sequence[Table]) -> list[str]:
    """Names of the classes over all tables: in alphabetical order, or 0, 1, ... of integers."""
    values = [v for table in tables for v in table.labels or ()]
    if all(isinstance(v, int) for v in values):
        return [str(i) for i in range(max(values, default=-1) + 1)]
    return sorted({str(v) for v in values})
