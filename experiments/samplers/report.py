"""Tables (exact.md) and figures (exact_*.png) of exact.json and peers.json."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from problem import BUDGETS

from diffjax.samplers import SAMPLERS

Errors = dict[str, dict[str, dict[str, Any]]]
"""[sampler][grid][path, law or gauss]: one number per budget."""
Entry = tuple[float, str, str]
"""Error, sampler, grid."""
PANELS = ("multistep", "runge_kutta")
"""Families with a panel of their own."""
SLACK = 1 + 1e-6
COLUMNS = (10, 20, 50, 100)
TITLES = {"edm": "VE, sigma from 80 to 0.002", "vp": "VP, beta from 0.1 to 20"}


def write(path: Path, made: Any) -> None:
    path.write_text(json.dumps(made, separators=(",", ":")) + "\n")


def plain(grid: str) -> bool:
    """Not one of the grids that `optimize` made."""
    return not grid.startswith("for ")


def anything(grid: str) -> bool:
    return True


def best(
    errors: Errors, i: int, allowed: Callable[[str], bool], kind: str = "path"
) -> Entry | None:
    """The least error at BUDGETS[i]."""
    found = [
        (values[kind][i], sampler, grid)
        for sampler, grids in errors.items()
        for grid, values in grids.items()
        if allowed(grid) and kind in values and values[kind][i] is not None
    ]
    return min(found, default=None)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}" if value < 0.01 else f"{value:.3g}"


def _entry(entry: Entry | None) -> str:
    return f"{_number(entry[0])} {entry[1]}, {entry[2]}" if entry else ""


def claim(ours: Errors, peers: Errors, allowed: Callable[[str], bool]) -> Iterator[str]:
    """Best here and best of the peers at every budget, and whether the former is no worse."""
    yield from _head("passes", "here", "peers", "here / peers", "holds")
    for i, budget in enumerate(BUDGETS):
        mine, theirs = best(ours, i, allowed), best(peers, i, allowed)
        if mine and theirs:
            ratio, holds = mine[0] / theirs[0], mine[0] <= theirs[0] * SLACK
            yes = "yes" if holds else "**no**"
            yield _row(str(budget), _entry(mine), _entry(theirs), f"{ratio:.3f}", yes)


def overview(errors: Errors, kind: str, only_noisy: bool = False) -> Iterator[str]:
    """Every sampler at some budgets: best of the plain grids, and best of all with its grid."""
    cells = [f"{b}, {which}" for b in COLUMNS for which in ("plain grids", "all grids")]
    yield from _head("sampler", *cells)
    for sampler, grids in errors.items():
        if only_noisy and not noisy(grids):
            continue
        cells = []
        for budget in COLUMNS:
            for allowed in (plain, anything):
                entry = best({sampler: grids}, BUDGETS.index(budget), allowed, kind)
                cells.append(f"{_number(entry[0])} {entry[2]}" if entry else "")
        if any(cells):
            yield _row(f"`{sampler}`", *cells)


def tables(results: dict[str, Any], peers: dict[str, Errors]) -> Iterator[str]:
    yield "# Error against passes: all tables\n"
    yield "`exact.py` writes these tables, and [README.md](README.md) explains them.\n"
    for process, title in TITLES.items():
        ours, theirs = results["errors"][process], peers[process]
        for name, allowed in (("plain grids", plain), ("all grids", anything)):
            yield f"## {title}: best against best, {name}\n"
            yield from claim(ours, theirs, allowed)
            yield ""
        for name, errors in (("here", ours), ("peers", theirs)):
            yield f"## {title}: distance to the exact results, {name}\n"
            yield from overview(errors, "path")
            yield ""
            yield f"## {title}: distance to the exact distribution, stochastic samplers, {name}\n"
            yield f"Exact draws have {_number(results['floor'])} on average.\n"
            yield from overview(errors, "law", only_noisy=True)
            yield ""
        yield f"## {title}: distance on Gaussian data, without Monte Carlo, here\n"
        yield from overview(ours, "gauss")
        yield ""


def curve(errors: Errors, allowed: Callable[[str], bool], kind: str = "path") -> list[float]:
    entries = [best(errors, i, allowed, kind) for i in range(len(BUDGETS))]
    return [entry[0] if entry else float("nan") for entry in entries]


def family(sampler: str) -> str:
    module = SAMPLERS[sampler.split(":")[0]].plan.__module__.split(".")[-1]
    return {"unipc": "multistep"}.get(module, module)


def _axes(axes: Any, title: str, label: str) -> None:
    axes.set(xscale="log", yscale="log", title=title, xlabel="network passes", ylabel=label)
    axes.set_xticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def noisy(grids: dict[str, dict[str, Any]]) -> bool:
    return not any("path" in values for values in grids.values())


def families(ours: Errors, peers: Errors, floor: float, title: str) -> Figure:
    """A panel per family, each sampler on its best plain grid; all peers in grey."""
    figure = Figure(figsize=(18, 11), dpi=80, layout="constrained")
    figure.suptitle(f"{title}: each sampler on its best plain grid", fontsize=14)
    groups: dict[str, Errors] = {}
    for sampler, grids in ours.items():
        name = family(sampler) if family(sampler) in PANELS else "others"
        name = "with noise" if noisy(grids) else name
        groups.setdefault(name, {})[sampler] = grids
    panels = figure.subplots(2, 2).flat
    for axes, (name, errors) in zip(panels, sorted(groups.items()), strict=True):
        law = name == "with noise"
        kind, label = ("law", "distance of the laws") if law else ("path", "RMS to the exact end")
        _axes(axes, name, label)
        grey = {"color": "0.8", "linewidth": 1, "zorder": 1}
        for sampler, grids in peers.items():
            if noisy(grids) == law:
                axes.plot(BUDGETS, curve({sampler: grids}, plain, kind), **grey)
        axes.plot([], [], label="each of the peers", **grey)
        if law:
            axes.axhline(floor, color="k", linestyle=":", label="exact draws")
        for k, (sampler, grids) in enumerate(errors.items()):
            style = {"color": f"C{k % 10}", "linestyle": ("-", "--", ":")[k // 10 % 3]}
            line = curve({sampler: grids}, plain, kind)
            axes.plot(BUDGETS, line, marker=".", label=sampler, **style)
        axes.set_ylim(floor / 2 if law else 5e-5, 3)
        axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def against(results: dict[str, Any], peers: dict[str, Errors]) -> Figure:
    """Best here and best of each library, with and without the grids made here."""
    figure = Figure(figsize=(13, 5.5), dpi=100, layout="constrained")
    for axes, (process, title) in zip(figure.subplots(1, 2), TITLES.items(), strict=True):
        _axes(axes, title, "RMS to the exact end, best sampler and grid")
        libraries = {"diffjax": results["errors"][process]}
        for library in ("k-diffusion", "diffusers"):
            mine = {s: e for s, e in peers[process].items() if s.startswith(library)}
            libraries[library] = mine
        styles = zip(libraries.items(), ("C0", "0.35", "0.65"), ("o", "s", "^"), strict=True)
        for (library, errors), colour, marker in styles:
            for allowed, line, note in ((plain, "-", "plain grids"), (anything, "--", "all grids")):
                style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
                axes.plot(BUDGETS, curve(errors, allowed), label=f"{library}, {note}", **style)
        axes.legend(fontsize=9)
    return figure


def everything(folder: Path, theirs: Path) -> None:
    results = json.loads((folder / "exact.json").read_text())
    peers = json.loads(theirs.read_text())
    (folder / "exact.md").write_text("\n".join(tables(results, peers)))
    for process, title in TITLES.items():
        figure = families(results["errors"][process], peers[process], results["floor"], title)
        figure.savefig(folder / f"exact_{process}.png")
    against(results, peers).savefig(folder / "exact_best.png")
