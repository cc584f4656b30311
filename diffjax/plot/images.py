"""Pictures of images: grids, strips, with captions; noised; files of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import stream
from diffjax.data.images import to_uint8
from diffjax.plot.drawn import drawn
from diffjax.plot.points import scatter
from diffjax.sde import SDE, levels

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


def strips(rows: Sequence[np.ndarray], labels: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """uint8 images (N, columns, H, W, C) per label as a picture (H', W', 3), titled above."""
    from matplotlib.figure import Figure

    lines = sum(len(r) for r in rows)
    figure = Figure(figsize=(1.1 * len(titles) + 1.2, 1.1 * lines + 0.4), dpi=100)
    panels = figure.subplots(lines, len(titles), squeeze=False)
    figure.subplots_adjust(0.11, 0.01, 0.995, 1 - 0.3 / (1.1 * lines + 0.4), 0.04, 0.04)
    images = ((label, strip) for label, r in zip(labels, rows, strict=True) for strip in r)
    for line, (label, strip) in zip(panels, images, strict=True):
        label = label.replace(":", "\n").replace(",", "\n")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for axes, image in zip(line, strip, strict=True):
            colour = image if image.shape[-1] == 3 else image[..., :1].repeat(3, axis=-1)
            axes.imshow(colour, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return drawn(figure)


def captioned(
    rows: Sequence[np.ndarray], labels: Sequence[str], captions: Sequence[Sequence[str]]
) -> np.ndarray:
    """uint8 images (N, H, W, C) of each row with a caption each, as a picture (H', W', 3)."""
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    size = (1.1 * columns + 1.0, 1.3 * len(rows))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, images, label, texts in zip(panels, rows, labels, captions, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for axes in line:
            axes.set(xticks=[], yticks=[])
        for axes, image, text in zip(line, images, texts, strict=False):
            colour = image if image.shape[-1] == 3 else image[..., :1].repeat(3, axis=-1)
            axes.imshow(colour, interpolation="nearest")
            axes.set_title(text, fontsize=8, pad=2)
    return drawn(figure)


def noised(
    processes: Mapping[str, SDE], x0: np.ndarray, times: Sequence[float], seed: int = 0
) -> np.ndarray:
    """Images (N, H, W, C) in [-1, 1] at rising times as a picture (H', W', 3), rows per process.

    The noise is the same in all rows. x is divided by sqrt(alpha^2 + sigma^2): in VE it grows.
    """
    clean, rows = jnp.asarray(x0), []
    eps = jax.random.normal(stream(seed, "forward"), clean.shape)
    for sde in processes.values():
        at = levels(sde, np.clip(times, sde.t_min, sde.t_max))
        noisy = [sde.perturb(clean, eps, jnp.full(len(clean), t)) for t in at.t]
        scaled = [x / s for x, s in zip(noisy, np.hypot(at.alpha, at.sigma), strict=True)]
        rows.append(to_uint8(np.stack([x0, *scaled], 1)))
    return strips(rows, [*processes], ["x0", *(f"t = {t:g}" for t in times)])


def colours(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8 colours with a last axis of 3, dark to light."""
    from matplotlib import colormaps

    return (colormaps["viridis"](np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def samples(x: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """A picture (H, W, 3): a grid of `visible` images (N, H, W, C), or a cloud of points (N, 2).

    Images whose labels come in turn stand in one column per class.
    """
    if x.ndim != 4:
        return scatter(x, label)
    x = visible(x)
    columns = None
    if label is not None:
        kinds = len(np.unique(label))
        in_turn = (label == np.resize(label[:kinds], len(x))).all()
        columns = kinds if in_turn and 1 < kinds <= min(MOST_COLUMNS, len(x) // 2) else None
    return grid(x, columns)


def visible(x: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) in uint8. Of latents, in floats, the first three channels are shown,
    black to white from -3 to 3."""
    if x.dtype == np.uint8:
        return x
    return to_uint8(x[..., :3] / 3 if x.shape[-1] >= 3 else x[..., :1] / 3)


def closest(
    x: np.ndarray, train: np.ndarray, distance: np.ndarray, columns: int = 10
) -> np.ndarray:
    """Pairs as a picture (H', W', 3), in their order: a sample of x (N, H, W, C) as it is stored,
    its distance (N,) on it, above the training item that is nearest to it."""
    from PIL import Image, ImageDraw

    above, below = visible(x), visible(train)
    line = np.full_like(above[:, :1], 255)
    columns = min(columns, len(x))
    pairs = np.concatenate([above, line, below, line, line], 1)
    picture = Image.fromarray(grid(pairs, columns, 2 * TILE))
    draw, rows = ImageDraw.Draw(picture), math.ceil(len(x) / columns)
    for i, d in enumerate(distance):
        row, column = divmod(i, columns)
        corner = (2 + column * (picture.width - 2) // columns, row * (picture.height - 2) // rows)
        draw.text(corner, f"{d:.3g}", fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def save(path: Path, picture: np.ndarray) -> None:
    """Write a uint8 picture (H, W, 3) or (H, W, 1); the folder is made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture[..., 0] if picture.shape[-1] == 1 else picture
    Image.fromarray(array).save(path)
