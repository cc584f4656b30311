"""Latents: the outputs of an encoder on a grid of any number of axes, channels last."""

from __future__ import annotations

import numpy as np

from diffjax.data.images import to_uint8
from diffjax.data.kinds.kind import Kind
from diffjax.data.kinds.storing import NPY

RANGE = "black to white: -3 to 3"


def shades(x: np.ndarray) -> np.ndarray:
    """Return the first three channels of floats (N, H, W, C), or the first, as grey levels.

    Values from -3 to 3 run from black to white.
    """
    return to_uint8(x[..., :3] / 3 if x.shape[-1] >= 3 else x[..., :1] / 3)


def _tiles(x: np.ndarray) -> np.ndarray:
    """Return the middle slice along all axes of the grid but its last two; a line is a strip."""
    x = x[:, None, None] if x.ndim == 2 else x[:, None] if x.ndim == 3 else x
    while x.ndim > 4:
        x = x[:, x.shape[1] // 2]
    return shades(x)


LATENT = Kind(
    name="latent",
    axes="(*grid, C)",
    ranks=(1, 2, 3, 4),
    tiles=_tiles,
    files=(NPY,),
    window=(-3, -2),
    mirror=-2,
    caption=lambda x, units: RANGE,
    noun="latent",
    resizable=("height", "width"),
)
