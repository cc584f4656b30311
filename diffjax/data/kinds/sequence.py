"""Sequences of vectors (L, C), such as measurements over time, of about unit variance."""

from __future__ import annotations

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.storing import NPY

SEQUENCE = Kind(
    name="sequence",
    axes="(L, C)",
    ranks=(2,),
    tiles=drawing.lines,
    files=(NPY,),
    window=(-2,),
    lengths=True,
    caption=lambda x, units: drawing.span(x),
    noun="sequence",
)
