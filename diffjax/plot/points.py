"""Pictures of points, vectors and densities in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjax.data.kinds.figures import SIDE, drawn


def plane(n: int, side: float = SIDE) -> np.ndarray:
    """Return the centres (n n, 2) of the n x n cells of [-side, side]^2, row by row upwards.

    >>> plane(2, side=1.0).tolist()
    [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    """
    axis = (np.arange(n) + 0.5) / n * 2 * side - side
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)


def clouds(
    points: Sequence[np.ndarray], titles: Sequence[str], label: np.ndarray | None = None
) -> np.ndarray:
    """Return sets of points (N, 2) side by side, coloured by label, as a picture (H, W, 3).

    titles: one per set.

    >>> clouds([np.zeros((4, 2)), np.ones((4, 2))], ["data", "samples"]).shape
    (240, 440, 3)
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * len(points), 2.4), dpi=100, layout="constrained")
    (panels,) = figure.subplots(1, len(points), squeeze=False)
    for axes, x, title in zip(panels, points, titles, strict=True):
        axes.scatter(*x.T, s=2, c=label, cmap="tab10" if label is not None else None)
        axes.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), xticks=[], yticks=[])
        axes.set_title(title, fontsize=9)
        axes.set_aspect("equal")
    return drawn(figure)


def paths(x: np.ndarray, title: str = "", data: np.ndarray | None = None) -> np.ndarray:
    """Return paths x (R, N, 2) of N points, R states each, over data (M, 2).

    The result is a picture (H, W, 3).

    >>> paths(np.zeros((3, 4, 2))).shape
    (450, 450, 3)
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if data is not None:
        axes.scatter(*data.T, s=2, c="silver")
    axes.plot(x[..., 0], x[..., 1], linewidth=0.8)
    axes.scatter(*x[-1].T, s=12, c="black", zorder=3)
    axes.set(title=title, xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE))
    axes.set_aspect("equal")
    return drawn(figure)


def field(
    points: np.ndarray, vectors: np.ndarray, title: str = "", data: np.ndarray | None = None
) -> np.ndarray:
    """Return vectors (N, 2) at points (N, 2) as arrows over data (M, 2), a picture (H, W, 3).

    The colour shows the length of a vector v. Arrows have a length proportional to |v| / (|v| +
    median), so that both long and short vectors are visible.

    >>> field(plane(2), np.ones((4, 2)), title="score").shape
    (430, 500, 3)
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.3), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if data is not None:
        axes.scatter(*data.T, s=2, c="silver")
    size = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    spacing = 2 * SIDE / np.sqrt(len(points))
    moved = 1.5 * spacing * vectors / (size + np.median(size))[:, None]
    arrows = axes.quiver(
        *points.T, *moved.T, size, norm=LogNorm(), angles="xy", scale_units="xy", scale=1
    )
    figure.colorbar(arrows, ax=axes, label="length")
    axes.set(title=title, xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE))
    axes.set_aspect("equal")
    return drawn(figure)


def heat(density: np.ndarray, side: float, points: np.ndarray, title: str) -> np.ndarray:
    """Return a density (N, N) on [-side, side]^2, first axis upwards, with points (M, 2) on it.

    >>> heat(np.eye(4), 3.0, np.zeros((1, 2)), "density").shape
    (500, 600, 3)
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    extent = (-side, side, -side, side)
    image = axes.imshow(density, origin="lower", extent=extent, cmap="viridis")
    axes.scatter(*points.T, s=1, c="white", alpha=0.4, linewidths=0)
    figure.colorbar(image, ax=axes, label="density")
    axes.set(title=title, xlim=(-side, side), ylim=(-side, side))
    axes.set(xlabel="x0 (white dots: items of the data)", ylabel="x1")
    return drawn(figure)
