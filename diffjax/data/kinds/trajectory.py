"""Trajectories (L, C) of values in about [-1, 1], whose first two are a place in the plane."""

from __future__ import annotations

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.storing import NPY

TRAJECTORY = Kind(
    name="trajectory",
    axes="(L, C)",
    ranks=(2,),
    tiles=drawing.paths,
    files=(NPY,),
    noun="path",
)
