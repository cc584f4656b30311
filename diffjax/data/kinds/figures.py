"""Pictures with axes: scatter plots of points, and of the columns of a table."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from diffjax.data.kinds.drawing import LONGEST, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 3.0
"""Half the side of the square in which points are drawn."""
MOST_PAIRS = 5
"""Largest number of columns that are drawn against each other."""
MOST_LEVELS = 8
"""Largest number of levels of a category that have a tick."""
MISSING = "#bbbbbb"
"""Colour of items without a class."""
LINES = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"),
    *("#bcbd22", "#17becf", "#000000", "#00008b", "#006400", "#ffbf00", "#ff00ff", "#98df8a"),
)
"""Colours of curves in a figure: the ten of matplotlib, and six that are far from them."""


def scatter(
    points: np.ndarray, label: np.ndarray | None = None, class_names: Sequence[str] = ()
) -> np.ndarray:
    """Draw points (N, 2) as a picture (H, W, 3), coloured by label.

    class_names: names of the labels for the legend.

    >>> scatter(np.zeros((10, 2))).shape
    (500, 500, 3)
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(*points[:, :2].T, s=4, c=_colours(label))
    axes.set_aspect("equal")
    outside = int((np.abs(points[:, :2]) > SIDE).any(axis=1).sum())
    title = f"{len(points)} samples" + (f", {outside} outside the frame" if outside else "")
    limits = (-SIDE, SIDE)
    axes.set(xlim=limits, ylim=limits, title=title, xlabel="x0", ylabel="x1")
    _legend(figure, label, class_names, "outside lower center")
    return drawn(figure)


def pairs(
    columns: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """Draw columns (N,) of a table by name as a matrix of scatter plots (H, W, 3).

    The diagonal shows a histogram of each column of numbers, and the counts of each column of
    texts. At most five columns are drawn.
    """
    from matplotlib.figure import Figure

    shown = {k: _codes(values) for k, values in [*columns.items()][:MOST_PAIRS]}
    side, num = len(shown), len(next(iter(columns.values())))
    figure = Figure(figsize=(2 * side + 1, 2 * side + 1), dpi=60, layout="constrained")
    left_out = f"; the first {side} of {len(columns)} columns" if len(columns) > side else ""
    figure.suptitle(f"{num} samples{left_out}")
    colours = _colours(label)
    for i, (name, (values, levels)) in enumerate(shown.items()):
        for j, (other, (across, levels_across)) in enumerate([*shown.items()][: i + 1]):
            axes = figure.add_subplot(side, side, i * side + j + 1)
            if i > j:
                axes.scatter(across, values, s=4, c=colours)
                _ticks(axes, "y", values, levels)
            elif levels:
                axes.bar(*np.unique(values, return_counts=True))
            else:
                axes.hist(values, min(20, max(5, num // 4)))
            _ticks(axes, "x", across, levels_across)
            across_name, row_name = (short(text, LONGEST) for text in (other, name))
            axes.set_xlabel(across_name if i == side - 1 else "")
            axes.set_ylabel("" if j else row_name)
            axes.tick_params(labelbottom=i == side - 1, labelleft=i > j == 0)
            if i == j:  # the vertical axis of a histogram is not that of its row
                axes.set_ylabel("count")
                axes.yaxis.set_label_position("right")
                axes.yaxis.tick_right()
                axes.tick_params(labelright=True)
    _legend(figure, label, class_names, "upper right")
    return drawn(figure)


def _codes(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return a column as numbers, and the levels that the numbers stand for if it holds texts."""
    if values.dtype.kind == "f":
        return values, []
    levels, codes = np.unique(values, return_inverse=True)
    return codes, [short(str(level), 10) for level in levels]


def _ticks(axes: Axes, which: Literal["x", "y"], values: np.ndarray, levels: Sequence[str]) -> None:
    """Set the range of a column, equal in all plots, and few ticks, so that they do not overlap."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = float(values.min()), float(values.max())
    if levels:
        low, high, every = -0.5, len(levels) - 0.5, math.ceil(len(levels) / MOST_LEVELS)
        axis.set_ticks(range(0, len(levels), every), [*levels[::every]])
        if which == "x":
            axes.tick_params("x", labelrotation=90)
    else:
        margin = 0.05 * (high - low) or 0.5
        low, high = low - margin, high + margin
        axis.set_major_formatter("{x:.3g}")
        axes.locator_params(axis=which, nbins=3)
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)


def _colours(label: np.ndarray | None) -> Any:
    """Return the colour of each item by its class, grey without one; None without labels."""
    if label is None:
        return None
    palette = np.array([*LINES, MISSING])
    return palette[np.where(label < 0, len(LINES), label % len(LINES))]


def _legend(
    figure: Figure, label: np.ndarray | None, class_names: Sequence[str], place: Any
) -> None:
    """Add a legend of the classes, where they are few enough to have different colours."""
    from matplotlib.lines import Line2D

    kinds = [] if label is None else np.unique(label).tolist()
    if len(kinds) < 2 or max(kinds) >= len(LINES):
        return
    names = [short(str(class_names[k]), LONGEST) if class_names else f"class {k}" for k in kinds]
    names = [name if k >= 0 else "none" for k, name in zip(kinds, names, strict=True)]
    colours = _colours(np.array(kinds))
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=name)
        for colour, name in zip(colours, names, strict=True)
    ]
    columns = min(len(kinds), 4 if place.startswith("outside") else 1 + len(kinds) // 9)
    figure.legend(handles=handles, loc=place, ncols=columns, fontsize=9)


def numbered(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of x (N, D) under the names x0, x1, ..., for `pairs`."""
    return {f"x{i}": column for i, column in enumerate(x.T)}


def drawn(figure: Figure) -> np.ndarray:
    """Render a figure as a uint8 picture (H, W, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))
