"""Pictures as data URIs for `src`, small enough that a page can be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffjax.pages import encoded, uri

BYTES = 3_000_000
"""Approximate bytes of all pictures of a page together; as text they are a third larger."""
SIDES = (1000, 700, 500, 350, 250)


def embedded(path: Path, many: int) -> str:
    """Return the data URI of the picture in a file, one of `many`; "" where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _encode(image.convert("RGB"), BYTES // many)
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for truncated files
        return ""


def drawn(picture: np.ndarray, many: int) -> str:
    """Return the data URI of a picture uint8 (H, W, 3), one of `many`."""
    from PIL import Image

    return _encode(Image.fromarray(picture), BYTES // many)


def _encode(image: Any, most: int) -> str:
    """Encode as PNG if that is small enough, else as JPEG of decreasing size."""
    for kind, side in [("png", SIDES[0]), *(("jpeg", side) for side in SIDES)]:
        smaller = image.copy()
        smaller.thumbnail((side, side))
        content = encoded(smaller, kind)
        if len(content) <= most:
            break
    return uri(f"image/{kind}", content)
