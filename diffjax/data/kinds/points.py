"""Points in the plane or in space, seen all together; about unit variance."""

from __future__ import annotations

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.storing import CSV

POINTS = Kind(
    name="points",
    axes="(D,)",
    ranks=(1,),
    channels=(2, 3),
    tiles=lambda x: drawing.lines(x[..., None], drawing.SIDE),
    together=lambda x, label, units: drawing.scatter(x, label),
    files=(CSV,),
    noun="point",
)
