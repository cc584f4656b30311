"""Decoding in overlapping tiles, for latents whose images need more memory than there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

OVERLAP = 4
"""Neighbouring tiles share one part in this many of their sides."""


def starts(side: int, tile: int) -> list[int]:
    """Return where tiles begin along a side, the last one at its end.

    >>> starts(64, 32), starts(20, 32)
    ([0, 24, 32], [0])
    """
    if tile >= side:
        return [0]
    return [*range(0, side - tile, tile - tile // OVERLAP), side - tile]


def weights(side: int) -> Float[np.ndarray, " h"]:
    """Return the weights of the pixels along the side of a tile: they fall linearly in the overlap.

    >>> weights(8).tolist()
    [0.25, 0.75, 1.0, 1.0, 1.0, 1.0, 0.75, 0.25]
    """
    near = np.arange(side) + 0.5
    return np.minimum(1.0, np.minimum(near, near[::-1]) / max(side // OVERLAP, 1)).astype("float32")


def tiled(
    decode: Callable[[np.ndarray], np.ndarray], z: Float[np.ndarray, "n h w c"], tile: int
) -> Float[np.ndarray, "n x y d"]:
    """Return the images of latents, decoded tile by tile and blended linearly where these overlap.

    decode: maps latents of any number to images, all of one size. tile: the side of a tile, >= 4,
    in latents; a tile as large as the latents is the whole. The result differs from that of
    `decode` near the borders of tiles, and everywhere for decoders whose norms or attention see all
    places.
    """
    sides = z.shape[1:3]
    height, width = (min(tile, side) for side in sides)
    corners = [*itertools.product(starts(sides[0], height), starts(sides[1], width))]
    cut = np.concatenate([z[:, i : i + height, j : j + width] for i, j in corners])
    images = decode(cut)
    parts = images.reshape(len(corners), len(z), *images.shape[1:])
    factor = parts.shape[2] // height
    weight = weights(parts.shape[2])[:, None, None] * weights(parts.shape[3])[None, :, None]
    total = np.zeros((len(z), *(factor * side for side in sides), parts.shape[-1]), np.float32)
    norm = np.zeros((*total.shape[1:3], 1), np.float32)
    for (i, j), part in zip(corners, parts, strict=True):
        rows = slice(factor * i, factor * i + part.shape[1])
        columns = slice(factor * j, factor * j + part.shape[2])
        total[:, rows, columns] += weight * part
        norm[rows, columns] += weight
    return total / norm
