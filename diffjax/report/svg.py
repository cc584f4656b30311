"""Curves and maps over training steps as small SVG, which the style sheet of the page colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from diffjax.report.record import Series

WIDTH, HEIGHT = 440.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 20.0, 12.0, 36.0
MOST = 600
"""Largest number of points of a drawn curve; longer curves are averaged in groups."""
COLUMNS = 60
"""Largest number of columns of a drawn map."""


@dataclass(frozen=True)
class Axis:
    """The map from values in [low, high] to pixels in [start, stop], linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: Any) -> Any:
        low, high, at = (np.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / ((high - low) or 1) * (self.stop - self.start)

    def ticks(self, whole: bool = False) -> list[float]:
        """Return about five round values within the axis; integers if `whole`."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        wide = self.log and self.high / self.low > 100
        subs = (1.0,) if wide else (1.0, 2.0, 5.0)
        locator = LogLocator(subs=subs) if self.log else MaxNLocator(5, integer=whole)
        ticks = locator.tick_values(self.low, self.high)
        return [float(v) for v in ticks if self.low <= v <= self.high]


def curves(
    lines: Mapping[str, Series], label: str, marks: Sequence[int] = (), zero: bool = False
) -> str:
    """Return each series as a line, with dashed vertical lines at `marks`.

    The axis is logarithmic where the values span a decade. zero: the axis begins at 0. label: the
    text for screen readers.
    """
    lines = {name: thin(line) for name, line in lines.items() if len(line.steps)}
    values = np.concatenate([line.values for line in lines.values()])
    low, high = float(values.min()), float(values.max())
    log = not zero and low > 0 and high > 10 * low
    edge = 1.15 if log else 0.06 * ((high - low) or abs(high) or 1)
    bounds = (low / edge, high * edge) if log else (0.0 if zero else low - edge, high + edge)
    x = Axis(0.0, float(max(line.steps[-1] for line in lines.values())), LEFT, WIDTH - RIGHT)
    y = Axis(*bounds, HEIGHT - BOTTOM, TOP, log)
    parts = [_frame(x, y, WIDTH - RIGHT)]
    for mark in marks:
        parts.append(f'<path class="mark" d="M{x(mark):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for i, line in enumerate(lines.values()):
        points = [f"{a:.1f} {b:.1f}" for a, b in zip(x(line.steps), y(line.values), strict=True)]
        parts.append(f'<path class="line c{i}" d="M{"L".join(points)}"/>')
        end = points[-1].split()
        parts.append(f'<circle class="dot c{i}" cx="{end[0]}" cy="{end[1]}" r="3"/>')
    return _svg(parts, label)


def heat(rows: Mapping[float, Series], label: str, height: float) -> tuple[str, float, float]:
    """Return a map of values by step and key, and its smallest and largest value.

    Steps run along the horizontal axis, and the keys along the vertical one in boxes of `height`.
    The logarithm of the value chooses the colour; the two values are those of the ends of the
    colour scale.
    """
    from matplotlib import colormaps

    last = max(float(row.steps[-1]) for row in rows.values())
    steps = {int(step) for row in rows.values() for step in row.steps}
    edges = np.linspace(0, last, min(COLUMNS, len(steps)) + 1)
    x = Axis(0.0, last, LEFT, WIDTH - RIGHT)
    y = Axis(min(rows), max(rows) + height, HEIGHT - BOTTOM, TOP)
    boxes = {
        (key, column): float(row.values[place == column].mean())
        for key, row in rows.items()
        for place in [np.searchsorted(edges[1:], row.steps)]
        for column in np.unique(place)
    }
    low, high = (max(f(boxes.values()), 1e-12) for f in (min, max))
    shade = Axis(low, max(high, low * 1.001), 0.0, 1.0, log=True)
    parts = []
    for (key, column), value in boxes.items():
        left, right = x(edges[column]), x(edges[column + 1])
        top, bottom = y(key + height), y(key)
        colour = "#" + "".join(
            f"{round(255 * c):02x}" for c in colormaps["viridis"](float(shade(max(value, low))))[:3]
        )
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left + 0.3:.1f}" '
            f'height="{bottom - top + 0.3:.1f}" fill="{colour}"/>'
        )
    return _svg([*parts, _frame(x, y, LEFT)], label), low, high


def thin(line: Series) -> Series:
    """Return at most MOST points, each the mean of an equal number of neighbours."""
    size = -(-len(line.steps) // MOST)
    cuts = range(size, len(line.steps), size)
    means = lambda a: np.array([part.mean() for part in np.split(a, cuts)])
    return line if size == 1 else Series(means(line.steps), means(line.values))


def short(value: float) -> str:
    """Format a number briefly: 0.25, 40, 12k, 3M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _frame(x: Axis, y: Axis, stop: float) -> str:
    """Return the numbers along both axes, and horizontal rules from the left to `stop`."""
    parts, start = [], LEFT - 4
    for v in y.ticks():
        at = float(y(v))
        parts.append(f'<path class="rule" d="M{start} {at:.1f}H{stop}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" class="end">{short(v)}</text>')
    for v in x.ticks(whole=True):
        at = float(x(v))
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 17}" class="mid">{short(v)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 3}" class="mid">step</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    return "".join(parts)


def _svg(parts: Sequence[str], label: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"
