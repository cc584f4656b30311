"""Fields: values on a grid of any number of axes, channels last, such as winds or heights."""

from __future__ import annotations

import numpy as np

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.storing import NPY

MOST, SHOWN = 3.0, 4
"""The |value| that is drawn in full colour, and the largest number of channels that are shown."""
LOW, MIDDLE, HIGH = ([33, 102, 172], [255, 255, 255], [178, 24, 43])
"""Colours of -MOST, 0 and MOST."""


def colours(x: np.ndarray) -> np.ndarray:
    """Return values (...) as uint8 colours (..., 3): blue below 0, white at 0, red above.

    >>> colours(np.array([-9.0, 0.0, 3.0])).tolist()
    [[33, 102, 172], [255, 255, 255], [178, 24, 43]]
    """
    share = np.clip(np.nan_to_num(np.asarray(x, np.float32)) / MOST, -1, 1)[..., None]
    end = np.where(share < 0, np.array(LOW, np.float32), np.array(HIGH, np.float32))
    return np.round(np.abs(share) * end + (1 - np.abs(share)) * np.array(MIDDLE)).astype(np.uint8)


def _tiles(x: np.ndarray) -> np.ndarray:
    """Return the first channels side by side, of the middle slice along all but two axes."""
    x = x[:, None] if x.ndim == 3 else x
    while x.ndim > 4:
        x = x[:, x.shape[1] // 2]
    return drawing.beside(colours(np.moveaxis(x[..., :SHOWN], -1, 1)))


FIELD = Kind(
    name="field",
    axes="(*grid, C)",
    ranks=(2, 3, 4, 5),
    tiles=_tiles,
    files=(NPY,),
    caption=lambda x, units: f"blue, white, red: -{MOST:g}, 0, {MOST:g}",
    noun="field",
)
