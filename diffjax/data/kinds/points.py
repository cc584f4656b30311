"""Points in the plane or in space, drawn in one picture; about unit variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjax.data.kinds import drawing, figures
from diffjax.data.kinds.kind import Kind, Units
from diffjax.data.kinds.storing import CSV


def _picture(
    x: np.ndarray, label: np.ndarray | None, units: Units, class_names: Sequence[str]
) -> np.ndarray:
    """Draw points in the plane; for points in space, draw each pair of axes."""
    if x.shape[1] == 2:
        return figures.scatter(x, label, class_names)
    return figures.pairs(figures.numbered(x), label, class_names)


POINTS = Kind(
    name="points",
    axes="(D,)",
    ranks=(1,),
    channels=(2, 3),
    tiles=lambda x: drawing.lines(x[..., None], figures.SIDE),
    together=_picture,
    files=(CSV,),
    noun="point",
)
