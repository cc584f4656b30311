"""Videos (T, H, W, C), grey or in colour, at a `rate` in frames per second."""

from __future__ import annotations

import numpy as np

from diffjax.data.kinds import drawing
from diffjax.data.kinds.films import GIF, GIFS, MP4S
from diffjax.data.kinds.image import IMAGE, grey_levels
from diffjax.data.kinds.kind import Kind

SHOWN = 8
"""Largest number of frames in the picture of a video, evenly spaced."""
HEIGHT = 32
"""Height in pixels to which small frames are enlarged, by an integer factor."""
END = 6
"""Width in pixels of the white ends of a strip, which tell two videos in a row apart."""


def _strips(x: np.ndarray) -> np.ndarray:
    """Return the frames of each video side by side, as on a strip of film with white ends."""
    pick = np.unique(np.linspace(0, x.shape[1] - 1, SHOWN).round().astype(int))
    factor = max(1, HEIGHT // x.shape[2])
    frames = grey_levels(x[:, pick]).repeat(factor, 2).repeat(factor, 3)
    return np.pad(drawing.beside(frames), ((0, 0), (0, 0), (END, END), (0, 0)), constant_values=255)


VIDEO = Kind(
    name="video",
    axes="(T, H, W, C)",
    ranks=(4,),
    channels=(1, 3),
    dtypes=("uint8", "float32"),
    bound=1.0,
    denormalise=grey_levels,
    tiles=_strips,
    files=(GIF, GIFS, MP4S),
    window=(-3, -2),
    mirror=-2,
    values=IMAGE.values,
    noun="video",
    unit=IMAGE.unit,
)
