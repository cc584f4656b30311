"""Vectors of any width and about unit variance, such as rows of a table, states or descriptors."""

from __future__ import annotations

from diffjax.data.kinds import drawing, figures
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.storing import CSV

VECTOR = Kind(
    name="vector",
    axes="(D,)",
    ranks=(1,),
    tiles=lambda x: drawing.lines(x[..., None]),
    few=figures.MOST_PAIRS,
    caption=lambda x, units: drawing.span(x),
    files=(CSV,),
    noun="vector",
)
