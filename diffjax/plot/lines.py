"""Pictures of numbers: curves, schedules and the table of a sampler."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diffjax.arrays import float64
from diffjax.data.kinds.figures import LINES, drawn
from diffjax.samplers.table import Table, unroll
from diffjax.sde import SDE, levels

STYLES = ("-", "--", ":")
"""Line styles: of the first curves, of those that repeat their colours, and of a second
repetition."""


def lines(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x: str = "",
    y: str = "",
    title: str = "",
    log: str = "",
) -> np.ndarray:
    """Return curves by label, each (x, y), as a picture (H, W, 3).

    log: the logarithmic axes, "x", "y" or "xy".

    >>> lines({"loss": (np.array([1, 2, 4]), np.array([3.0, 2.0, 1.0]))}, x="step", log="x").shape
    (400, 600, 3)
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for i, (label, (at, values)) in enumerate(series.items()):
        few = len(at) <= 30
        (line,) = axes.plot(at, values, marker="o" if few else "", markersize=3, label=label)
        line.set(linestyle=STYLES[i // len(LINES) % 3], color=LINES[i % len(LINES)])
    axes.set(xlabel=x, ylabel=y, title=title)
    if "x" in log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_yscale("log" if "y" in log else "linear")
    axes.grid(alpha=0.3)
    if len(series) > 1:
        axes.legend(fontsize=8)
    return drawn(figure)


def curves(processes: Mapping[str, SDE]) -> np.ndarray:
    """Return alpha, sigma, log-SNR, g^2 and SNR of each process over t, as a picture (H, W, 3)."""
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
    for i, (label, sde) in enumerate(processes.items()):
        t = np.linspace(sde.t_min, sde.t_max, 1002)[:-1]
        at = levels(sde, t)
        g = float64(sde.diffusion)(t)
        style = {"color": LINES[i % len(LINES)], "linestyle": STYLES[i // len(LINES) % 3]}
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
    return drawn(figure)


def table(rows: Table) -> np.ndarray:
    """Return the unrolled map of a sampler as a picture (H, W, 3): all coefficients as colours.

    Rows: the network inputs, then the result. Columns: the initial state, the outputs, and noises
    where there are any. Raises ValueError for a table with Langevin rows.

    >>> from diffjax import samplers, schedules, sde
    >>> table(samplers.ddim(sde.Flow(schedules.Logit()), [1.0, 0.5, 0.0])).shape
    (400, 400, 3)
    """
    from matplotlib.figure import Figure

    maps = unroll(rows)
    full = np.vstack([maps.inputs, maps.result])
    used = np.flatnonzero(np.abs(full).any(0))
    names = ["x", *(f"y{i}" for i in range(len(rows))), *(f"z{i}" for i in range(len(rows)))]
    size = 2 + 0.3 * np.array([len(used), len(full)])
    figure = Figure(figsize=tuple(np.clip(size, 4, 20)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    # The signed root makes small coefficients visible as well.
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
    return drawn(figure)
