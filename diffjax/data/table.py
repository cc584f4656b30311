"""The source `table:<path>`: rows of a .csv file, whose columns are numbers or categories."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.config import nearest
from diffjax.data.kinds.table import Column, encoded
from diffjax.data.source import Memory, NoSplit, check_split, part

MOST = 100
"""Largest number of levels of a category, each of which takes one value of a row."""


def table(
    split: str,
    path: str = "",
    holdout: float = 0.1,
    columns: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    label: str = "",
) -> Memory:
    """Read rows of a .csv file with a header: standardised numbers, and categories as 1 and -1.

    A category has one value per level. A column in which every cell is a number is numeric; other
    columns, and those in `categories`, are categories. Means and standard deviations are those of
    the training rows. columns: the columns to learn, in this order; all by default. label: a column
    whose levels, sorted, are the labels of the rows. holdout: the share of held-out rows, chosen by
    row number. Raises ValueError for cells that are empty or not finite, for numbers that are equal
    in all rows, for more than 100 levels, and for rows of a single number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = Path(place, "trees.csv")
    ...     rows = [["height", "kind"], ["2.5", "oak"], ["3.5", "elm"], ["4.5", "oak"]]
    ...     np.savetxt(file, rows, fmt="%s", delimiter=",")
    ...     table("train", str(file), holdout=0.0).x.shape  # the height, and two levels
    (3, 3)
    """
    check_split(split, "a table")
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise ValueError(f"path={path!r}: no such file; the form is name=table:PATH.csv")
    try:
        cells = _cells(file)
        names = columns or tuple(name for name in cells if name != label)
        for setting, wanted in (
            ("columns", names),
            ("categories", categories),
            ("label", (label,) if label else ()),
        ):
            if unknown := [name for name in wanted if name not in cells]:
                known = nearest(unknown[0], cells)
                raise ValueError(f"{setting}={unknown[0]!r}: no such column{known}")
        rows = [str(i) for i in range(len(cells[names[0]]))]
        index, train = (part(rows, s, holdout) for s in (split, "train"))
        described = {k: _column(k, cells[k], k in categories, train) for k in names}
        x = np.concatenate([encoded(cells[k], column) for k, column in described.items()], 1)
        if x.shape[1] < 2:
            raise ValueError(f"columns={names}: a single number per row; needs at least two")
    except NoSplit:
        raise
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}: {error}") from error
    levels, labels = np.unique(cells[label], return_inverse=True) if label else ([], None)
    return Memory(
        x=x[index].astype(np.float32),
        label=None if labels is None else labels[index].astype(np.int32),
        classes=len(levels),
        kind="table",
        units=(("columns", described),),
        class_names=() if [*levels] == [*map(str, range(len(levels)))] else tuple(map(str, levels)),
    )


def _cells(file: Path) -> dict[str, list[str]]:
    """Read the texts of each column by its name."""
    with file.open(newline="", encoding="utf-8-sig") as text:
        header, *rows = list(csv.reader(text)) or [[]]
    names = [name.strip() for name in header]
    if not rows or not all(names) or len({*names}) < len(names):
        raise ValueError("needs a first line with a different name for each column, and rows below")
    for line, row in enumerate(rows, 2):
        if len(row) != len(names):
            raise ValueError(f"line {line} has {len(row)} cells; needs {len(names)}")
        if empty := [k for k, cell in zip(names, row, strict=True) if not cell.strip()]:
            raise ValueError(f"line {line}: {empty[0]} is empty; leave out the row or the column")
    return {k: [cell.strip() for cell in column] for k, *column in zip(names, *rows, strict=True)}


def _column(name: str, cells: Sequence[str], category: bool, train: Sequence[int]) -> Column:
    """Return the encoding of a column: all its levels, or mean and std over the training rows."""
    try:
        numbers = None if category else np.array(cells, np.float64)
    except ValueError:
        numbers = None
    if numbers is None:
        levels = sorted({*cells})
        if not 2 <= len(levels) <= MOST:
            raise ValueError(
                f"{name}: has {len(levels)} levels, such as {levels[0]!r}; needs numbers, or 2 to "
                f"{MOST} levels; columns=(...) can leave the column out"
            )
        return {"levels": levels}
    if not np.isfinite(numbers).all():
        line = 2 + int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"line {line}: {name}={cells[line - 2]}: needs a finite number")
    mean, std = float(numbers[train].mean()), float(numbers[train].std())
    if not std:
        raise ValueError(f"{name}: is {mean:g} in every row; columns=(...) can leave it out")
    return {"mean": mean, "std": std}
