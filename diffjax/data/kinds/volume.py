"""Volumes (D, H, W, C): grey levels, or floats of about unit variance."""

from __future__ import annotations

import numpy as np

from diffjax.data.kinds.image import IMAGE, grey_levels
from diffjax.data.kinds.kind import Kind, as_they_are, flat
from diffjax.data.kinds.latent import RANGE, shades
from diffjax.data.kinds.storing import NPY


def _sections(x: np.ndarray) -> np.ndarray:
    """Return the three sections through the middle of each volume, side by side."""
    x = x[..., :1] if x.dtype == np.uint8 else shades(x[..., :1])
    d, h, w = (n // 2 for n in x.shape[1:4])
    cuts = [x[:, d], x[:, :, h], x[:, :, :, w]]
    most = max(cut.shape[1] for cut in cuts)
    fill = lambda cut: ((0, 0), (0, most - cut.shape[1]), (0, 1), (0, 0))
    return np.concatenate([np.pad(cut, fill(cut), constant_values=255) for cut in cuts], 2)


def _denormalise(x: np.ndarray, dtype: str) -> np.ndarray:
    return grey_levels(x) if dtype == "uint8" else as_they_are(x, dtype)


VOLUME = Kind(
    name="volume",
    axes="(D, H, W, C)",
    ranks=(4,),
    dtypes=("uint8", "float32"),
    denormalise=_denormalise,
    tiles=_sections,
    files=(NPY,),
    window=(-4, -3, -2),
    mirror=-2,
    values=lambda x: IMAGE.values(x) if x.dtype == np.uint8 else flat(x),
    noun="volume",
    caption=lambda x, units: "" if x.dtype == np.uint8 else RANGE,
)
