"""Images, grey or in colour: grey levels 0 to 255, or floats in [-1, 1]."""

from __future__ import annotations

import numpy as np

from diffjax.data.images import to_uint8
from diffjax.data.kinds.kind import Kind, flat
from diffjax.data.kinds.storing import PNG


def grey_levels(x: np.ndarray, dtype: str = "uint8") -> np.ndarray:
    """Round floats in [-1, 1] to grey levels; values beyond are clipped, and uint8 is unchanged."""
    return x if x.dtype == np.uint8 else to_uint8(x)


def _unit(x: np.ndarray) -> np.ndarray:
    """Return the pixels as (N, D) in [0, 1]."""
    floats = flat(x).astype("float32")
    return floats / 255 if x.dtype == np.uint8 else (floats + 1) / 2


IMAGE = Kind(
    name="image",
    axes="(H, W, C)",
    ranks=(3,),
    channels=(1, 3),
    dtypes=("uint8", "float32"),
    bound=1.0,
    denormalise=grey_levels,
    tiles=grey_levels,
    files=(PNG,),
    window=(-3, -2),
    mirror=-2,
    augment=True,
    values=_unit,
    noun="image",
    unit=(127.5, "grey levels"),
    resizable=("height", "width"),
)
