"""Pictures in a notebook."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shown:
    """A picture (H, W, 3) that a notebook shows as the value of a cell.

    It is reduced to an adaptive palette of 256 colours, which takes a third of the bytes in the
    notebook.

    >>> Shown(np.zeros((48, 64, 3), np.uint8))
    picture of 64 x 48
    """

    picture: np.ndarray

    def _repr_png_(self) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        small = Image.fromarray(self.picture).quantize(256, dither=Image.Dither.NONE)
        small.save(buffer, format="png", optimize=True)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"picture of {self.picture.shape[1]} x {self.picture.shape[0]}"


def show(*pictures: np.ndarray) -> Shown:
    """Show pictures (H, W, 3) side by side, as the last line of a notebook's cell.

    >>> show(np.zeros((48, 64, 3), np.uint8), np.zeros((32, 16, 3), np.uint8))
    picture of 80 x 48
    """
    most = max(p.shape[0] for p in pictures)
    fill = lambda p: ((0, most - p.shape[0]), (0, 0), (0, 0))
    padded = [np.pad(p, fill(p), constant_values=255) for p in pictures]
    return Shown(np.concatenate(padded, axis=1))
