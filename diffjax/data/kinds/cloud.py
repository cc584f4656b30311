"""Clouds of points (N, d) in the plane or in space, whose place and order have no meaning.

Items, noises and predictions lie in the space of centred points, of (N - 1) d dimensions.
"""

from __future__ import annotations

import numpy as np

from diffjax.data.kinds.figures import SIDE
from diffjax.data.kinds.kind import Kind, flat
from diffjax.data.kinds.solid import Solid, shown
from diffjax.data.kinds.storing import PLY, XYZ, ended
from diffjax.spaces import Centred

TILE, RADIUS = 64, 3.0
"""Sides of the picture of a cloud and radius of the disc of a point, in pixels."""
BALL = 0.1
"""Radius of a point in a turning picture, where clouds have about unit variance."""


def centred(x: np.ndarray) -> np.ndarray:
    """Return clouds (B, N, d) around their means.

    >>> centred(np.array([[[0.0], [2.0]]])).tolist()
    [[[-1.0], [1.0]]]
    """
    return x - x.mean(1, keepdims=True)


def tiles(x: np.ndarray) -> np.ndarray:
    """Draw each cloud (N, d) as discs, seen along the last axis of space: (B, 64, 64, 1) in uint8.

    Points that are further away are lighter.

    >>> picture = tiles(np.zeros((1, 2, 2)))
    >>> picture.shape, int(picture[0, 32, 32, 0])
    ((1, 64, 64, 1), 0)
    """
    x = centred(np.asarray(x, np.float32))
    centre = (x[..., :2] / SIDE + 1) * (TILE / 2)
    depth = x[..., 2] if x.shape[-1] > 2 else np.full(x.shape[:2], SIDE)
    dark = np.clip(0.65 + 0.35 * depth / SIDE, 0.3, 1.0)
    at, pictures = np.arange(TILE) + 0.5, np.ones((len(x), TILE, TILE), np.float32)
    for k in range(x.shape[1]):
        across, down = at[None] - centre[:, k, :1], at[None] - TILE + centre[:, k, 1:]
        away = np.sqrt(across[:, None] ** 2 + down[:, :, None] ** 2)
        disc = np.clip(RADIUS + 0.5 - away, 0, 1) * dark[:, k, None, None]
        pictures = np.minimum(pictures, 1 - disc)
    return np.round(255 * pictures).astype(np.uint8)[..., None]


def solid(x: np.ndarray) -> Solid:
    """Return a cloud (N, d) as balls around its mean, coloured by height.

    >>> solid(np.array([[0.0, -1.0], [0.0, 1.0]])).positions.tolist()
    [[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]
    """
    from matplotlib import colormaps

    points = np.pad(ended(x), ((0, 0), (0, 3 - x.shape[1]))).astype(np.float64)
    points = points - points.mean(0)
    height = np.clip(0.5 + points[:, 1] / (2 * SIDE), 0, 1)
    colours = np.round(255 * colormaps["viridis"](height)[:, :3]).astype(np.uint8)
    return Solid(points, colours, np.full(len(points), BALL))


CLOUD = Kind(
    name="cloud",
    axes="(N, d)",
    ranks=(2,),
    channels=(2, 3),
    tiles=tiles,
    files=(XYZ, PLY, *shown(solid, "cloud")),
    space=Centred(),
    values=lambda x: flat(centred(x)),
    noun="cloud",
    resizable=("points",),
)
