"""Pictures: grids of images, clouds of points, files of both."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

MOST_COLUMNS = 20
TILE = 64
"""Small images are enlarged by a whole factor to about this many pixels."""


def grid(images: np.ndarray, columns: int | None = None, tile: int = TILE) -> np.ndarray:
    """uint8 images (N, H, W, C) as one picture (H', W', 3), row by row, with thin gaps."""
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    factor = max(1, tile // max(h, w))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = h * factor, w * factor
    gap = 2
    canvas = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, np.uint8)
    colour = images[..., :3] if c >= 3 else images[..., :1].repeat(3, axis=-1)
    for i, image in enumerate(colour):
        y, x = divmod(i, columns)
        canvas[gap + y * (h + gap) :, gap + x * (w + gap) :][:h, :w] = image
    return canvas


def scatter(points: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """Points (N, 2) as a picture (H, W, 3), coloured by label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100)
    axes = figure.add_subplot()
    axes.scatter(*points[:, :2].T, s=4, c=label, cmap="tab10" if label is not None else None)
    axes.set_aspect("equal")
    outside = int((np.abs(points[:, :2]) > 3).any(axis=1).sum())
    title = f"{len(points)} samples" + (f", {outside} outside the frame" if outside else "")
    axes.set(xlim=(-3, 3), ylim=(-3, 3), title=title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    from PIL import Image

    return np.asarray(Image.open(buffer).convert("RGB"))


def samples(x: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """A picture (H, W, 3): a grid of uint8 images (N, H, W, C), or a cloud of points (N, 2).

    Images whose labels come in turn stand in one column per class.
    """
    if x.ndim != 4:
        return scatter(x, label)
    columns = None
    if label is not None:
        kinds = len(np.unique(label))
        in_turn = (label == np.resize(label[:kinds], len(x))).all()
        columns = kinds if in_turn and 1 < kinds <= min(MOST_COLUMNS, len(x) // 2) else None
    return grid(x, columns)


def save(path: Path, picture: np.ndarray) -> None:
    """Write a uint8 picture (H, W, 3) or (H, W, 1); the folder is made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture[..., 0] if picture.shape[-1] == 1 else picture
    Image.fromarray(array).save(path)
