"""Histograms of the ranks of outcomes among the members of forecasts, as `evaluate` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.kinds.drawing import save
from diffjax.data.kinds.figures import drawn as rendered
from diffjax.report.evaluated import rows
from diffjax.report.record import inside

METRIC = "rank_histogram"


def histograms(shares: Mapping[str, Sequence[float]], true: Sequence[float] = ()) -> np.ndarray:
    """Return a picture (H, W, 3) with a panel of shares of ranks by title, flat ones being best.

    true: the shares of the true ensemble, drawn as a line in each panel.

    >>> histograms({"20 steps": [0.3, 0.4, 0.3]}).shape
    (300, 400, 3)
    """
    from matplotlib.figure import Figure

    columns = min(len(shares), 3)
    height = -(-len(shares) // columns)
    figure = Figure(figsize=(4 * columns, 3 * height), dpi=100, layout="constrained")
    panels = [*figure.subplots(height, columns, squeeze=False).flat]
    for axes, (title, values) in zip(panels, shares.items(), strict=False):
        at, scale = np.arange(len(values)), len(values)
        axes.bar(at, scale * np.asarray(values), width=1.0, edgecolor="white")
        axes.axhline(1.0, color="grey", linestyle=":")
        if len(true) == len(values):
            axes.step(at, scale * np.asarray(true), where="mid", color="black", label="true")
            axes.legend(fontsize=7, frameon=False)
        axes.set(title=title, xlabel="members below the outcome", ylabel="share, flat = 1")
    for axes in panels[len(shares) :]:
        axes.axis("off")
    return rendered(figure)


def drawn(path: Path, results: Sequence[Mapping[str, Any]]) -> bool:
    """Write the histograms of all jobs as one picture; return whether there are any.

    Without any, no file is written, and one of an earlier command is removed.
    """
    path.unlink(missing_ok=True)
    found: dict[str, Sequence[float]] = {}
    true: Any = ()
    for result, row in zip(results, rows(results), strict=True):
        shares: Any = inside(result, f"{METRIC}.shares")
        if shares:
            text = ", ".join(
                f"{k} {row[k]}" for k in ("sampler", "steps", "guidance") if row.get(k)
            )
            found[text or f"job {len(found) + 1}"] = shares
            true = inside(result, f"{METRIC}.floor_shares") or ()
    if found:
        save(path, histograms(found, true))
    return bool(found)
