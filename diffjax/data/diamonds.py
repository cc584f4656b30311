"""The prices and properties of 53,940 diamonds, rows of a table in the package plotnine (MIT)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from diffjax.data.source import Memory
from diffjax.data.table import table


def diamonds(split: str, path: str = "", scale: str = "quantile", holdout: float = 0.2) -> Memory:
    """Read rows of 7 numbers and 3 categories (cut, color, clarity), as 27 values.

    path: the file `diamonds.csv`, by default that of the package plotnine. scale, holdout: see
    `table`. Raises ValueError where plotnine is absent, and where `table` does.

    >>> import tempfile
    >>> header = "carat,cut,color,clarity,depth,table,price,x,y,z"
    >>> rows = ["0.2,Fair,E,SI2,61,55,326,3.9,4,2.4", "0.3,Good,I,VS1,63,58,335,4.3,4.4,2.7"]
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = Path(place, "diamonds.csv")
    ...     _ = file.write_text("\\n".join([header, *rows]))
    ...     diamonds("train", str(file), holdout=0.0).shape  # two levels of each category
    (13,)
    """
    return table(split, path or str(_packaged()), holdout, scale=scale)


def _packaged() -> Path:
    """Return the file of the package, without importing it."""
    try:
        spec = find_spec("plotnine")
    except ValueError:  # a module that is set to None
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(
            'diamonds: needs plotnine: pip install "diffjax[diamonds]", or its table: diamonds:FILE'
        )
    return Path(spec.origin).parent / "data" / "diamonds.csv"
