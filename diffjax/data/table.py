"""The source `table:<path>`: rows of a .csv or .parquet file, of numbers and categories."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.config import nearest
from diffjax.data.kinds.table import SCALES, Column, encoded
from diffjax.data.source import Memory, NoSplit, check_split, part

MISSING = ("refuse", "drop", "keep")
"""What happens to rows with an empty cell."""

MOST = 100
"""Largest number of levels of a category, each of which takes one value of a row."""


def table(
    split: str,
    path: str = "",
    holdout: float = 0.1,
    columns: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    label: str = "",
    scale: str = "standard",
    missing: str = "refuse",
) -> Memory:
    """Read rows of a .csv file with a header, or of a .parquet file, as scaled numbers.

    A category has one value per level, 1 for its level and -1 for the others. A column in which
    every cell is a number is numeric; other columns, and those in `categories`, are categories.
    scale: `standard`, by mean and standard deviation, or `quantile`, to a normal distribution, both
    of the training rows; equal numbers are spread at random over their interval. columns: the
    columns to learn, in this order; all by default. label: a column whose levels, sorted, are the
    labels of the rows. holdout: the share of held-out rows, chosen by row number. missing: `refuse`
    rows with an empty cell, `drop` them, or `keep` them with a gap, NaN, in each value of the cell,
    for `data.hidden` to impute; labels have no gaps. Raises ValueError for cells that are not
    finite, for numbers that are equal in all rows, for more than 100 levels, and for rows of a
    single number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = Path(place, "trees.csv")
    ...     rows = [["height", "kind"], ["2.5", "oak"], ["3.5", "elm"], ["4.5", "oak"]]
    ...     np.savetxt(file, rows, fmt="%s", delimiter=",")
    ...     table("train", str(file), holdout=0.0).x.shape  # the height, and two levels
    (3, 3)
    """
    check_split(split, "a table")
    for setting, value, allowed in (("scale", scale, SCALES), ("missing", missing, MISSING)):
        if value not in allowed:
            raise ValueError(f"{setting}={value!r}: unknown; known: {', '.join(allowed)}")
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise ValueError(f"path={path!r}: no such file; name=table:PATH.csv or .parquet")
    try:
        cells = _cells(file)
        names = columns or tuple(name for name in cells if name != label)
        _check_names(cells, columns=names, categories=categories, label=[label] * bool(label))
        needed = {*names} if missing != "keep" else set()
        rows = _complete(cells, needed | {*[label] * bool(label)}, missing)
        cells = {k: [column[i] for i in rows] for k, column in cells.items()}
        index, train = (part([str(i) for i in rows], s, holdout) for s in (split, "train"))
        describe = lambda k: _column(k, cells[k], rows, train, "" if k in categories else scale)
        described = {k: describe(k) for k in names}
        parts = [encoded(cells[k], c, _spread(k, len(rows))) for k, c in described.items()]
        x = np.concatenate(parts, 1)
        if x.shape[1] < 2:
            raise ValueError(f"columns={names}: a single number per row; needs at least two")
    except NoSplit:
        raise
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}: {error}") from error
    own = {"kind": "table", "units": (("columns", described),), "gaps": missing == "keep"}
    own |= _labels(cells[label], index) if label else {}
    return Memory(x[index].astype(np.float32), **own)


def _labels(cells: Sequence[str], index: Sequence[int]) -> dict[str, Any]:
    """Return the labels of the rows at `index`, their classes, and the names of these if any."""
    levels, labels = np.unique(cells, return_inverse=True)
    named = () if [*levels] == [*map(str, range(len(levels)))] else tuple(map(str, levels))
    label = labels[index].astype(np.int32)
    return {"label": label, "classes": len(levels), "class_names": named}


def _check_names(cells: Mapping[str, Sequence[str]], **wanted: Sequence[str]) -> None:
    """Raise ValueError for a setting that names a column which does not exist."""
    for setting, names in wanted.items():
        if unknown := [name for name in names if name not in cells]:
            raise ValueError(
                f"{setting}={unknown[0]!r}: no such column{nearest(unknown[0], cells)}"
            )


def _cells(file: Path) -> dict[str, list[str]]:
    """Read the texts of each column by its name; a missing value is an empty text."""
    if file.suffix == ".parquet":
        header, *rows = _parquet(file)
    else:
        with file.open(newline="", encoding="utf-8-sig") as text:
            header, *rows = list(csv.reader(text)) or [[]]
    names = [name.strip() for name in header]
    if not rows or not all(names) or len({*names}) < len(names):
        raise ValueError("needs a first line with a different name for each column, and rows below")
    for line, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise ValueError(f"line {line} has {len(row)} cells; needs {len(names)}")
    return {k: [cell.strip() for cell in column] for k, *column in zip(names, *rows, strict=True)}


def _parquet(file: Path) -> list[list[str]]:
    """Read the names of the columns, and the rows below; a missing value is an empty text."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ValueError('needs pyarrow: pip install "diffjax[parquet]"') from error
    try:
        read = parquet.read_table(file).to_pydict()
    except ArrowException as error:
        raise ValueError(f"is no Parquet file that can be read: {error}") from error
    text = lambda value: "" if value is None else str(value)
    return [[*read], *([text(v) for v in row] for row in zip(*read.values(), strict=True))]


def _complete(cells: Mapping[str, Sequence[str]], names: set[str], missing: str) -> list[int]:
    """Return the numbers of the rows without an empty cell in these columns."""
    used = {k: column for k, column in cells.items() if k in names}
    if not used:
        return [*range(len(next(iter(cells.values()))))]
    rows = []
    for i, row in enumerate(zip(*used.values(), strict=True)):
        if all(row):
            rows.append(i)
        elif missing != "drop":
            empty = next(k for k, cell in zip(used, row, strict=True) if not cell)
            raise ValueError(
                f"line {i + 2}: {empty} is empty; leave out the row (missing=drop leaves out all "
                f"such rows) or the column, or keep gaps to impute them (missing=keep)"
            )
    if not rows:
        raise ValueError("every row has an empty cell; columns=(...) can leave columns out")
    return rows


def _spread(name: str, count: int) -> np.ndarray:
    """Return a uniform number per row, the same for the same name of the column."""
    return np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode()))).random(count)


def _column(
    name: str, cells: Sequence[str], rows: Sequence[int], train: Sequence[int], scale: str
) -> Column:
    """Return the encoding of a column: all its levels, or the scale of the training rows.

    rows: the number of each cell's row in the file. scale: empty for a category. Empty cells do not
    count.
    """
    there = np.array([bool(cell) for cell in cells])
    train = [i for i in train if there[i]]
    try:
        numbers = np.array([cell or "nan" for cell in cells], np.float64) if scale else None
    except ValueError:
        numbers = None
    if numbers is None:
        levels = sorted({*cells} - {""})
        if not 2 <= len(levels) <= MOST:
            raise ValueError(
                f"{name}: has {len(levels)} levels, such as {levels[0]!r}; needs numbers, or 2 to "
                f"{MOST} levels; columns=(...) can leave the column out"
            )
        return {"levels": levels}
    if not np.isfinite(numbers[there]).all():
        at = int(np.flatnonzero(~np.isfinite(numbers) & there)[0])
        raise ValueError(f"line {rows[at] + 2}: {name}={cells[at]}: needs a finite number")
    if not train:
        raise ValueError(f"{name}: is empty in every training row; columns=(...) can leave it out")
    if np.ptp(numbers[train]) == 0:
        value = numbers[train][0]
        raise ValueError(f"{name}: is {value:g} in every row; columns=(...) can leave it out")
    return SCALES[scale](numbers[train])
