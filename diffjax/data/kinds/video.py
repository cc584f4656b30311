"""Videos (T, H, W, C), grey or in colour, at a `rate` in frames per second."""

from __future__ import annotations

import numpy as np

from diffjax.data.kinds import drawing
from diffjax.data.kinds.films import GIF, GIFS, MP4S
from diffjax.data.kinds.image import IMAGE, grey_levels
from diffjax.data.kinds.kind import Kind

SHOWN = 8
"""Largest number of frames in the picture of a video, evenly spaced."""


def _sheet(x: np.ndarray) -> np.ndarray:
    pick = np.unique(np.linspace(0, x.shape[1] - 1, SHOWN).round().astype(int))
    return drawing.beside(grey_levels(x[:, pick]))


VIDEO = Kind(
    name="video",
    axes="(T, H, W, C)",
    ranks=(4,),
    channels=(1, 3),
    dtypes=("uint8", "float32"),
    bound=1.0,
    denormalise=grey_levels,
    tiles=_sheet,
    files=(GIF, GIFS, MP4S),
    window=(-3, -2),
    mirror=-2,
    values=IMAGE.values,
    noun="video",
    unit=IMAGE.unit,
)
