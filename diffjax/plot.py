"""Pictures: grids of images, clouds of points, files of both."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffjax.arrays import float64
from diffjax.data.images import to_uint8
from diffjax.samplers.table import Table, unroll
from diffjax.sde import SDE, levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    return _drawn(figure)


def curves(processes: Mapping[str, SDE]) -> np.ndarray:
    """alpha, sigma, log-SNR, g^2 and SNR of each process over t, as a picture (H, W, 3)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), dpi=100, layout="constrained")
    panels = figure.subplots(2, 3)
    titles = ("alpha", "sigma", "log-SNR", "g$^2$ (beta, in VP)", "SNR")
    for axes, title in zip(panels.flat, titles, strict=False):
        axes.set(title=title, xlabel="t")
        axes.grid(alpha=0.3)
    alpha, sigma, logsnr, beta, snr, legend = panels.flat
    for axes, low, high in ((beta, 1e-3, 1e4), (snr, 1e-6, 1e6), (logsnr, -20, 20)):
        axes.set_yscale("linear" if low < 0 else "log")
        axes.set_ylim(low, high)
    styles = ("-", "--", ":")
    for i, (label, sde) in enumerate(processes.items()):
        t = np.linspace(sde.t_min, sde.t_max, 1002)[:-1]
        at = levels(sde, t)
        g = float64(sde.diffusion)(t)
        style = {"color": f"C{i % 10}", "linestyle": styles[i // 10 % 3]}
        alpha.plot(t, at.alpha, **style)
        sigma.plot(t, at.sigma, **style)
        logsnr.plot(t, 2 * at.lam, **style)
        beta.plot(t, g**2, **style)
        snr.plot(t, np.exp(2 * at.lam), **style)
        legend.plot([], [], label=label, **style)
    if sigma.get_ylim()[1] > 5:
        sigma.set_yscale("log")
    legend.axis("off")
    legend.legend(loc="center", frameon=False, ncols=1 + len(processes) // 12)
    return _drawn(figure)


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
    return _drawn(figure)


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
    return _drawn(figure)


def colours(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8 colours with a last axis of 3, dark to light."""
    from matplotlib import colormaps

    return (colormaps["viridis"](np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def heat(density: np.ndarray, side: float, points: np.ndarray, title: str) -> np.ndarray:
    """A density (N, N) on [-side, side]^2, first axis upwards, with points (M, 2) on it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    extent = (-side, side, -side, side)
    image = axes.imshow(density, origin="lower", extent=extent, cmap="viridis")
    axes.scatter(*points.T, s=1, c="white", alpha=0.4, linewidths=0)
    figure.colorbar(image, ax=axes, label="density")
    axes.set(title=title, xlim=(-side, side), ylim=(-side, side))
    return _drawn(figure)


def table(rows: Table) -> np.ndarray:
    """What each network input and the result are made of: the unrolled map of a sampler as colours.

    Rows: inputs, then the result; columns: initial state, outputs, and noises where there are any.
    """
    from matplotlib.figure import Figure

    maps = unroll(rows)
    full = np.vstack([maps.inputs, maps.result])
    used = np.flatnonzero(np.abs(full).any(0))
    names = ["x", *(f"y{i}" for i in range(len(rows))), *(f"z{i}" for i in range(len(rows)))]
    size = 2 + 0.3 * np.array([len(used), len(full)])
    figure = Figure(figsize=tuple(np.clip(size, 4, 20)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    # A signed root: small coefficients are seen as well.
    shown = np.sign(full) * np.sqrt(np.abs(full))
    most = np.abs(shown).max()
    image = axes.imshow(shown[:, used], cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    every = max(1, len(full) // 40)
    labels = [*(f"t = {t:.3g}" for t in rows.t[rows.active]), "result"]
    axes.set_yticks(range(0, len(full), every), labels[::every], fontsize=7)
    axes.set_xticks(range(0, len(used), every), [names[k] for k in used[::every]], fontsize=7)
    bar = figure.colorbar(image, ax=axes, label="coefficient")
    ticks = np.linspace(-most, most, 7)
    bar.set_ticks(list(ticks), labels=[f"{np.sign(v) * v * v:.2g}" for v in ticks])
    axes.set_title(f"y = {rows.read.__name__}", fontsize=9)
    return _drawn(figure)


FRAMES = 10
"""Columns of a drawn trajectory."""


def trajectory(path: Path, x: np.ndarray, x0: np.ndarray, t: np.ndarray) -> None:
    """x and the predicted x0 (R, N, ...) after some of the rows at t (R,), as a PNG."""
    pick = np.unique(np.linspace(0, len(t) - 1, FRAMES).round().astype(int))
    titles = [f"t = {t[i]:.3g}" for i in pick]
    if x.ndim != 5:
        save(
            path,
            grid(np.stack([_cloud(x[i], x0[i], s) for i, s in zip(pick, titles, strict=True)]), 5),
        )
        return
    rows, labels = [], []
    for k, pair in enumerate(zip(*map(_sides, (x[pick], x0[pick])), strict=True)):
        rows += [side[None] for side in pair]
        labels += [f"sample {k}:x", f"sample {k}:x0"]
    save(path, strips(rows, labels, titles))


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
    return _drawn(figure)


def _drawn(figure: Figure) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


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
