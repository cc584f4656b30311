"""Trained rows of a table of learned vectors: a word or a class that a network does not know yet.

Textual inversion (arXiv:2208.01618) learns the vector of one new word from a few images, and
changes nothing else: with the row W_j at which it begins,

    W'_i = W_j + v,    W'_k = W_k for all other k,

where v starts at 0 and is all that is trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax.arrays import Params
from diffjax.io.trees import flat, joined, nested, some
from diffjax.nets.adapted import PARAMS, Adapter

ROWS, TABLE = "rows", "embedding"
"""The name of the trained vectors, and that of tables of learned vectors."""


@dataclass(frozen=True)
class Rows(Adapter):
    """Trained rows of tables of learned vectors (arXiv:2208.01618).

    where: a regular expression; tables whose path contains a match are adapted, such as
    `words_text` or `label`. A table of one row, the vector of a missing condition, never is. rows:
    their rows, by default the last one, counted from the end if negative. A table of labels has the
    missing class first. like: the row at which they begin, by default each at its own value in the
    base. Raises ValueError for no rows, and for a row twice.

    >>> params = {"words": {"embedding": jnp.eye(3)}, "adapter": {"words": {"embedding": {
    ...     "rows": jnp.array([[5.0, 0.0, 0.0]])}}}}
    >>> Rows(where="words", like=0).merge(params)["words"]["embedding"][2].tolist()
    [6.0, 0.0, 0.0]
    """

    rows: tuple[int, ...] = (-1,)
    like: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if not self.rows or len(set(self.rows)) < len(self.rows):
            raise ValueError(f"rows={self.rows}: needs rows, each once")

    def places(self, size: int) -> tuple[int, ...]:
        """Return the rows as numbers from 0 in a table of this size; raise ValueError outside."""
        given = (*self.rows, *(() if self.like is None else (self.like,)))
        if wrong := [i for i in given if not -size <= i < size]:
            raise ValueError(f"rows, like: {wrong[0]}: the table has the rows 0 to {size - 1}")
        return tuple(i % size for i in self.rows)

    def chosen(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tables that are adapted, by path; raise ValueError as `check`."""
        named = {k: v for k, v in flat(params).items() if k.rpartition("/")[2] == TABLE}
        tables = {k: v for k, v in named.items() if len(v) > 1}
        chosen = {k: v for k, v in tables.items() if re.search(self.where, k)}
        if not chosen:
            raise ValueError(f"where={self.where!r}: matches no table; {some('known', tables)}")
        for table in chosen.values():
            self.places(len(table))
        return chosen

    def check(self, params: Params, stacks: tuple[str, ...] = ()) -> None:
        self.chosen(params)

    def init(self, key: Key[Array, ""], params: Params, stacks: tuple[str, ...] = ()) -> Params:
        shape = lambda table: (len(self.rows), table.shape[1])
        chosen = self.chosen(params)
        return nested({f"{k}/{ROWS}": jnp.zeros(shape(v)) for k, v in chosen.items()})

    def merge(self, params: Params, stacks: tuple[str, ...] = ()) -> Params:
        base = {k: v for k, v in params.items() if k != PARAMS}
        known, own = flat(base), flat(params[PARAMS])
        paths = self.adapted(own, ROWS)
        return joined(base, nested({k: self.changed(known[k], own[f"{k}/{ROWS}"]) for k in paths}))

    def changed(self, table: Array, steps: Array) -> Array:
        """Return a table (n, width) with these rows moved by (k, width)."""
        rows = np.array(self.places(len(table)))
        begin = rows if self.like is None else np.full_like(rows, self.like)
        return table.at[rows].set(table[begin] + steps.astype(table.dtype))

    def grown(self, path: str, table: Any, size: int) -> Any | None:
        """Return a table with new rows at its end, which begin at the mean of its rows.

        The result is None where the adapter does not train all new rows of the table at `path`.

        >>> Rows(where="words").grown("words/embedding", np.array([[1.0], [3.0]]), 3).tolist()
        [[1.0], [3.0], [2.0]]
        """
        new = set(range(len(table), size))
        if not new or not re.search(self.where, path) or not new <= set(self.places(size)):
            return None
        more = jnp.broadcast_to(table.mean(0), (len(new), *table.shape[1:]))
        return jnp.concatenate([jnp.asarray(table), more])
