"""Pictures of trajectories, on which samples form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.data.kinds import Kind, lookup
from diffjax.data.kinds.drawing import grid
from diffjax.data.kinds.figures import drawn
from diffjax.plot.images import strips

FRAMES = 10
"""Number of columns of a drawn trajectory."""


def trajectory(x: np.ndarray, x0: np.ndarray, t: np.ndarray, kind: str = "image") -> np.ndarray:
    """Return x and the predicted x0 (R, N, ...) after some of the rows at t (R,) as a picture.

    The picture is (H, W, 3). kind: kind of the data, an entry of `data.KINDS`.

    >>> x = np.zeros((2, 1, 8, 8, 1), np.float32)  # two rows of one image
    >>> trajectory(x, x, np.array([1.0, 0.5])).ndim
    3
    """
    items = lookup(kind)
    pick = np.unique(np.linspace(0, len(t) - 1, FRAMES).round().astype(int))
    titles = [f"t = {t[i]:.3g}" for i in pick]
    if items.together:
        panels = [_cloud(x[i], x0[i], s) for i, s in zip(pick, titles, strict=True)]
        return grid(np.stack(panels), 5)
    rows, labels = [], []
    sides = (_sides(a[pick], items) for a in (x, x0))
    for k, pair in enumerate(zip(*sides, strict=True)):
        rows += [side[None] for side in pair]
        labels += [f"sample {k}:x", f"sample {k}:x0"]
    return strips(rows, labels, titles)


def film(path: Path, x: np.ndarray, x0: np.ndarray, t: np.ndarray, kind: str = "image") -> None:
    """Write all rows as an animation (GIF): x on the left, the predicted x0 on the right.

    >>> import tempfile
    >>> x = np.zeros((2, 1, 8, 8, 1), np.float32)  # two rows of one image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     film(Path(folder, "film.gif"), x, x, np.array([1.0, 0.5]))
    """
    items = lookup(kind)
    if items.together:
        frames = [_cloud(a, b, f"t = {s:.3g}") for a, b, s in zip(x, x0, t, strict=True)]
    else:
        sides = (_sides(a, items).swapaxes(0, 1) for a in (x, x0))
        frames = [np.concatenate([grid(a), grid(b)], axis=1) for a, b in zip(*sides, strict=True)]
    animation(path, frames)


def animation(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Write pictures uint8 (H, W, 3) of one size as an animation (GIF) that pauses on the last.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animation(Path(folder, "film.gif"), [np.zeros((8, 8, 3), np.uint8)] * 2)
    """
    from PIL import Image

    images = [Image.fromarray(f) for f in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [100] * (len(images) - 1) + [2000]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0)


def _sides(x: np.ndarray, items: Kind) -> np.ndarray:
    """Return states (R, N, ...) as uint8 pictures (N, R, h, w, c), each in a visible range."""
    scale = np.maximum(1, np.nanstd(x, axis=tuple(range(2, x.ndim)), keepdims=True))
    scaled = (x / scale).reshape(-1, *x.shape[2:])
    tiles = items.tiles(items.denormalise(scaled, items.dtypes[0]))
    return tiles.reshape(*x.shape[:2], *tiles.shape[1:]).swapaxes(0, 1)


def _cloud(x: np.ndarray, x0: np.ndarray, title: str) -> np.ndarray:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 3), dpi=100)
    axes = figure.add_subplot()
    axes.scatter(*x[:, :2].T, s=6, label="x_t")
    axes.scatter(*x0[:, :2].T, s=6, label="x0")
    axes.set(xlim=(-3, 3), ylim=(-3, 3), title=title)
    axes.legend(loc="upper right", fontsize=7)
    return drawn(figure)
