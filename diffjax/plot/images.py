"""Pictures of items: strips, captioned images, noised images, and pairs of nearest items."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import stream
from diffjax.data.images import to_uint8
from diffjax.data.kinds import lookup
from diffjax.data.kinds.drawing import TILE, grid
from diffjax.data.kinds.figures import drawn
from diffjax.sde import SDE, levels


def strips(rows: Sequence[np.ndarray], labels: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """Return uint8 images (N, columns, H, W, C) per label as a picture (H', W', 3) with titles.

    rows: one array per label. titles: one per column.

    >>> image = np.zeros((1, 2, 8, 8, 1), np.uint8)  # one image, two columns
    >>> strips([image], ["ddim"], ["5 steps", "10 steps"]).ndim
    3
    """
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
    rows: Sequence[Sequence[np.ndarray]] | Sequence[np.ndarray],
    labels: Sequence[str],
    captions: Sequence[Sequence[str]],
) -> np.ndarray:
    """Return rows of uint8 images (N, H, W, C), each with a caption, as a picture (H', W', 3).

    labels: one per row. captions: one text per image, in rows.

    >>> captioned([np.zeros((2, 8, 8, 1), np.uint8)], ["real"], [["first", "second"]]).ndim
    3
    """
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
    processes: Mapping[str, SDE],
    x0: np.ndarray,
    times: Sequence[float],
    seed: int = 0,
    decode: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> np.ndarray:
    """Return images (N, H, W, C) in [-1, 1] at increasing times as a picture (H', W', 3).

    Each process has rows of its own, with the same noise in all. x is divided by sqrt(alpha^2 +
    sigma^2), because it grows in VE. decode: brings latents x0 and their noised versions to images.

    >>> from diffjax import schedules, sde
    >>> vp = sde.VP(schedules.Linear())
    >>> noised({"vp": vp}, np.zeros((1, 8, 8, 1), np.float32), [0.25, 0.5]).ndim
    3
    """
    clean, rows = jnp.asarray(x0), []
    eps = jax.random.normal(stream(seed, "forward"), clean.shape)
    for sde in processes.values():
        at = levels(sde, np.clip(times, sde.t_min, sde.t_max))
        noisy = [sde.perturb(clean, eps, jnp.full(len(clean), t)) for t in at.t]
        scaled = [x / s for x, s in zip(noisy, np.hypot(at.alpha, at.sigma), strict=True)]
        images = [decode(np.asarray(x)) for x in (x0, *scaled)]
        rows.append(to_uint8(np.stack(images, 1)))
    return strips(rows, [*processes], ["x0", *(f"t = {t:g}" for t in times)])


def colours(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as uint8 colours with a last axis of 3, from dark to light.

    >>> colours(np.array([0.0, 1.0])).tolist()
    [[68, 1, 84], [253, 231, 37]]
    """
    from matplotlib import colormaps

    return (colormaps["viridis"](np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def samples(x: np.ndarray, label: np.ndarray | None = None, kind: str = "image") -> np.ndarray:
    """Return stored items (N, ...) of a kind of data as a picture (H, W, 3).

    The picture is a grid, or a cloud of points. Items whose labels come in turn stand in one column
    per class. Raises ValueError for a kind that is not in `data.KINDS`.

    >>> samples(np.zeros((4, 8, 8, 1), np.uint8)).shape
    (134, 134, 3)
    """
    return lookup(kind).picture(x, label)


def closest(
    x: np.ndarray, train: np.ndarray, distance: np.ndarray, columns: int = 10
) -> np.ndarray:
    """Return pairs of samples and training items as a picture (H', W', 3), in their order.

    Each sample of x, uint8 (N, H, W, C), with its distance (N,) written on it, stands above the
    training item that is nearest to it. train: training items in the shape of x. columns: pairs per
    line.

    >>> x = np.zeros((2, 8, 8, 1), np.uint8)
    >>> closest(x, x, distance=np.array([0.1, 0.2])).ndim
    3
    """
    from PIL import Image, ImageDraw

    above, below = x, train
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
