"""Pictures of how samples come about."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffjax.data.images import to_uint8
from diffjax.plot.drawn import drawn
from diffjax.plot.images import grid, strips

FRAMES = 10
"""Columns of a drawn trajectory."""


def trajectory(x: np.ndarray, x0: np.ndarray, t: np.ndarray) -> np.ndarray:
    """x and the predicted x0 (R, N, ...) after some of the rows at t (R,), a picture (H, W, 3)."""
    pick = np.unique(np.linspace(0, len(t) - 1, FRAMES).round().astype(int))
    titles = [f"t = {t[i]:.3g}" for i in pick]
    if x.ndim != 5:
        panels = [_cloud(x[i], x0[i], s) for i, s in zip(pick, titles, strict=True)]
        return grid(np.stack(panels), 5)
    rows, labels = [], []
    for k, pair in enumerate(zip(*map(_sides, (x[pick], x0[pick])), strict=True)):
        rows += [side[None] for side in pair]
        labels += [f"sample {k}:x", f"sample {k}:x0"]
    return strips(rows, labels, titles)


def film(path: Path, x: np.ndarray, x0: np.ndarray, t: np.ndarray) -> None:
    """All rows as an animation (GIF): x on the left, the predicted x0 on the right."""
    from PIL import Image

    if x.ndim != 5:
        frames = [_cloud(a, b, f"t = {s:.3g}") for a, b, s in zip(x, x0, t, strict=True)]
    else:
        sides = (a.swapaxes(0, 1) for a in map(_sides, (x, x0)))
        frames = [np.concatenate([grid(a), grid(b)], axis=1) for a, b in zip(*sides, strict=True)]
    images = [Image.fromarray(f) for f in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [100] * (len(images) - 1) + [2000]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0)


def _sides(x: np.ndarray) -> np.ndarray:
    """States (R, N, H, W, C) as uint8 (N, R, H, W, C), each in a visible range."""
    scale = np.maximum(1, x.std(axis=(2, 3, 4), keepdims=True))
    return to_uint8(x / scale).swapaxes(0, 1)


def _cloud(x: np.ndarray, x0: np.ndarray, title: str) -> np.ndarray:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 3), dpi=100)
    axes = figure.add_subplot()
    axes.scatter(*x[:, :2].T, s=6, label="x_t")
    axes.scatter(*x0[:, :2].T, s=6, label="x0")
    axes.set(xlim=(-3, 3), ylim=(-3, 3), title=title)
    axes.legend(loc="upper right", fontsize=7)
    return drawn(figure)
