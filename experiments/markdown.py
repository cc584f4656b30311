"""Tables of the READMEs, written from the output files of the studies.

A table stands between two comments, and is never edited by hand:

    <!-- table: NAME -->
    <!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

PLACE = re.compile(
    r"(?P<begin>^<!-- table: (?P<name>\S+) -->\n).*?(?P<end>^<!-- end -->$)", re.S | re.M
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, its columns aligned."""
    cells = [[*heads], *([*row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    cells.insert(1, ["-" * width for width in widths])
    fill = lambda row: [c.ljust(w) for c, w in zip(row, widths, strict=True)]
    return "".join(f"| {' | '.join(fill(row))} |\n" for row in cells)


def filled(text: str, tables: Mapping[str, str]) -> str:
    """`text` with what belongs between its comments. Raises KeyError for a name not in `tables`."""
    return PLACE.sub(lambda m: f"{m['begin']}{tables[m['name']].rstrip()}\n{m['end']}", text)


def number(value: float, digits: int = 3) -> str:
    """To so many digits, without an exponent: 0.0123, 1.23, 123."""
    if not np.isfinite(value) or value == 0:
        return f"{value:g}"
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(places, 6)}f}"


def over_seeds(values: Sequence[float], digits: int = 3) -> str:
    """Mean +- its standard error, where there are several."""
    mean = float(np.mean(values))
    shown = number(mean, digits)
    if len(values) < 2:
        return shown
    places = len(shown.partition(".")[2])
    return f"{shown} +- {np.std(values, ddof=1) / np.sqrt(len(values)):.{places}f}"
