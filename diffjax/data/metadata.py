"""Reader of metadata.jsonl or metadata.csv beside images, in the form that model hubs use."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

NAMES = ("metadata.jsonl", "metadata.csv")
FILE, LABEL = "file_name", "label"
"""Columns with a fixed meaning: the path of an image, relative to the file, and its class."""


class Table(NamedTuple):
    """The contents of a metadata file.

    rows: the index of each row by file name. columns: the names of the K numeric columns. numbers:
    their values (N, K), NaN where one is missing. labels: the column `label`, integers or names,
    None without such a column. texts: the columns whose values are texts or lists of texts, by
    name, as a list of texts for each row. others: the names of the other columns.
    """

    path: Path
    rows: Mapping[str, int]
    columns: tuple[str, ...]
    numbers: np.ndarray
    labels: Sequence[Any] | None
    texts: Mapping[str, Sequence[Sequence[str]]] = MappingProxyType({})
    others: tuple[str, ...] = ()


def locate(folder: Path) -> Path | None:
    """Return the metadata file in a folder, None where the folder has none."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read(path: Path) -> Table:
    """Read the table in a file.

    Raises ValueError, which names the line or the row, for a file of another form.
    """
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
    plain = {k: v for k, v in values.items() if k != LABEL}
    numeric = {k: column for k, v in plain.items() if (column := _numbers(v))}
    texts = {k: v for k in plain if k not in numeric and (v := _texts(plain[k])) is not None}
    return Table(
        path=path,
        rows={name: i for i, name in enumerate(names)},
        columns=tuple(numeric),
        numbers=np.array([*numeric.values()], np.float32).reshape(len(numeric), len(rows)).T,
        labels=_labels(path, values[LABEL]) if LABEL in values else None,
        texts=texts,
        others=tuple(name for name in plain if name not in numeric and name not in texts),
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
            raise ValueError(f"{path}: line {number} is not an object with fields")
        rows.append(row)
    return rows


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _value(v) for k, v in row.items() if k} for row in csv.DictReader(file)]


def _value(text: str | None) -> Any:
    """Return a cell as a number if possible, else as text; None for an empty cell."""
    if text is None or not text.strip():
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _numbers(values: Sequence[Any]) -> list[float] | None:
    """Return a column of numbers, NaN where one is missing; None for any other column."""
    number = lambda v: isinstance(v, bool | int | float)
    if not all(v is None or number(v) for v in values) or all(v is None for v in values):
        return None
    return [math.nan if v is None else float(v) for v in values]


def _texts(values: Sequence[Any]) -> list[list[str]] | None:
    """Return a column of texts, or lists of texts, as lists; None for any other column."""
    rows = []
    for value in values:
        row = value if isinstance(value, list) else [] if value is None else [value]
        if any(isinstance(v, bool | dict | list) for v in row):
            return None
        rows.append([str(v) for v in row if v is not None])
    return rows


def _labels(path: Path, values: Sequence[Any]) -> Sequence[Any]:
    whole = lambda kind: all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not whole(str) and not (whole(int) and min(values) >= 0):
        raise ValueError(f"{path}: {LABEL}: needs a name, or an integer >= 0, in every row")
    return values


def classes(tables: Sequence[Table]) -> list[str]:
    """Return the names of the classes.

    They are in alphabetical order; integer labels give "0", "1", ..., up to the largest. tables:
    the tables of all splits.
    """
    values = [v for table in tables for v in table.labels or ()]
    if all(isinstance(v, int) for v in values):
        return [str(i) for i in range(max(values, default=-1) + 1)]
    return sorted({str(v) for v in values})
