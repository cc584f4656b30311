"""Results of `evaluate` as a table, one line per job, and as a figure of trade-offs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffjax.data.kinds.figures import LINES
from diffjax.report.record import inside, read_object

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
SETTINGS = ("run", "samples", "sampler", "steps", "guidance", "passes")
"""Settings of a job that the table always shows; it shows `OTHERS` where they differ."""
OTHERS = ("ema", "trained", "grid", "num", "seed", "tau", "stages", "features", "reference")
NAMES = ("run", "samples", "sampler", "ema")
"""Settings whose value needs no heading in a legend."""
STYLES = ("o-", "s--", "^:", "v-.")
"""Styles of lines with different names."""
COLUMNS = {
    "Frechet": "frechet.distance",
    "floor": "frechet.floor",
    "ratio": "frechet.ratio",
    "fid": "fid.distance",
    "fid_infinity": "fid_infinity.distance",
    "fid_per_class": "fid_per_class.mean",
    "sfid": "sfid.distance",
    "kid": "kid.distance",
    "cmmd": "cmmd.distance",
    "precision": "precision_recall.precision",
    "recall": "precision_recall.recall",
    "density": "density_coverage.density",
    "coverage": "density_coverage.coverage",
    "inception_score": "inception_score.score",
    "class agrees": "classifier.agreement",
    "of real": "classifier.test_accuracy",
    "nearest train": "memorization.samples",
    "held-out": "memorization.held_out",
    "ratio to held-out": "memorization.ratio",
    "authentic": "memorization.authenticity",
    "rank": "retrieval.median",
    "of": "retrieval.of",
    "crps": "crps.score",
    "true ensemble": "crps.floor",
    "climatology": "crps.climatology",
    "persistence": "crps.persistence",
    "energy": "energy.score",
    "energy of true": "energy.floor",
    "spread / skill": "spread_skill.ratio",
    "ranks": "rank_histogram.distance",
    "ranks of true": "rank_histogram.floor",
}
"""The place of a value in a result by heading; of any other metric it is the first number."""
BESIDE = (
    *("floor", "ratio", "of real", "precision", "recall", "density", "coverage"),
    *("nearest train", "held-out", "ratio to held-out", "authentic", "of"),
    *("true ensemble", "climatology", "persistence", "energy of true", "ranks of true"),
)
"""Columns that complement other columns; of these, only precision is drawn, against recall."""
REAL = {
    "Frechet": "floor",
    "class agrees": "of real",
    "crps": "true ensemble",
    "energy": "energy of true",
    "ranks": "ranks of true",
}
"""The column with the value that real data reach."""


def rows(results: Sequence[Any]) -> list[Row]:
    """Return one line per result: settings and values by heading, the same headings in each."""
    lines = [_settings(r) | _values(r) for r in results if isinstance(r, Mapping)]
    heads = [*dict.fromkeys(head for row in lines for head in row)]
    differ = lambda head: len({_text(row.get(head)) for row in lines}) > 1
    said = lambda head: any(row.get(head) is not None for row in lines)
    kept = [h for h in heads if said(h) and (h not in OTHERS or differ(h))]
    return [{head: row.get(head) for head in kept} for row in lines]


def _settings(result: Mapping[str, Any]) -> Row:
    protocol = result.get("protocol")
    settings: Row = dict(protocol) if isinstance(protocol, Mapping) else {}
    settings |= {"run": result.get("run"), "reference": inside(settings, "reference.data")}
    for name in ("sampler", "grid", "features"):
        settings[name] = _entry(settings.get(name))
    settings["tau"] = ",".join(f"{tau:g}" for tau in settings.get("tau") or ()) or None
    settings["stages"] = 1 + len(settings.get("stages") or ())
    if isinstance(settings.get("guidance"), Mapping):
        settings["guidance"] = settings["guidance"].get("weight", 1.0)
    return {name: settings.get(name) for name in (*SETTINGS, *OTHERS)}


def _entry(spec: Any) -> Any:
    """Return a section with a name as text such as `ddim:eta=0.5`; other values as they are."""
    if not isinstance(spec, Mapping):
        return spec
    settings = {k: v for k, v in spec.items() if k not in ("name", "about") and v != ""}
    shown = ",".join(f"{k}={v}" for k, v in settings.items())
    return f"{spec.get('name')}:{shown}" if shown else spec.get("name")


def _values(result: Mapping[str, Any]) -> Row:
    return {head: inside(result, place) for head, place in _places(result).items()}


def _places(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the place in a result of the value of each column."""
    metrics = {k: v for k, v in result.items() if k != "protocol" and isinstance(v, Mapping)}
    places = {h: p for h, p in COLUMNS.items() if p.partition(".")[0] in metrics}
    known = {place.partition(".")[0] for place in places.values()}
    for metric, values in metrics.items():
        number = next((k for k, v in values.items() if isinstance(v, float)), None)
        if metric not in known and number:
            places[metric] = f"{metric}.{number}"
    return places


def gathered(files: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """Return the results in the files of several runs, and notes on files that have none.

    Each result has the name of its run.
    """
    results, notes = [], []
    for path in files:
        unread: list[str] = []
        report = read_object(path, unread)
        notes += [f"{path}{note.removeprefix(path.name)}" for note in unread]
        run = path.parent.name if path.name == "evaluation.json" else path.name.partition(".")[0]
        kept = [*report.get("results", ()), report.get("network")]
        results += [{"run": run, **result} for result in kept if isinstance(result, Mapping)]
    return results, notes


def markdown(results: Sequence[Any]) -> str:
    """Return the table in Markdown, with aligned columns."""
    lines = rows(results)
    heads = [*lines[0]] if lines else []
    return aligned(heads, [[row[head] for head in heads] for row in lines])


def aligned(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown, with numbers to four digits and aligned columns.

    >>> print(aligned(["NFE", "ratio"], [[1, 2.0 / 3]]))
    | NFE |  ratio |
    | --: | -----: |
    |   1 | 0.6667 |
    """
    cells = [[*heads], *([_text(value) for value in line] for line in lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    cells.insert(1, ["-" * (w - 1) + ":" for w in widths])
    filled = ([c.rjust(w) for c, w in zip(line, widths, strict=True)] for line in cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in filled)


def line(name: str, result: Mapping[str, Any]) -> str:
    """Describe a metric of the network: its bits per dimension, or its shares with intervals."""
    if "bits" in result:
        return bits_line(name, result)
    shown = [
        f"{k} {result[k]:.4f} ({low:.4f} to {high:.4f}) of {result['counts'][k]}"
        for k, (low, high) in result["intervals"].items()
    ]
    return f"{', '.join(shown)} episodes of {result['protocol']['environment']}"


def bits_line(name: str, result: Mapping[str, Any]) -> str:
    """Describe a metric of the network: bits per dimension with standard error, and its terms."""
    parts = ("noise", "importance_weighted", "kl", "kl_error")
    parts += ("prior", "diffusion", "decoder", "passes")
    terms = "".join(f", {k} {result[k]:.5g}" for k in parts if k in result)
    error = f" +- {result['standard_error']:.4f}" if "standard_error" in result else ""
    protocol = result["protocol"]
    noun = protocol.get("items", "items")
    items = f"{result['count']} {noun} of {protocol['data']} {protocol['split']}"
    return f"{name} {result['bits']:.5f}{error} bits/dim on {items}{terms}"


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def tradeoffs(path: Path, results: Sequence[Mapping[str, Any]]) -> bool:
    """Draw each metric of quality against passes and against the guidance weight.

    Precision is drawn against recall. Panels have at least two values to compare. Returns whether
    there are any; without panels, no file is written.
    """
    from matplotlib.figure import Figure

    lines = rows(results)
    values = lambda head: {r[head] for r in lines if _number(r.get(head))}
    varied = [x for x in ("passes", "guidance") if len(values(x)) > 1]
    drawn = [h for h in lines[0] if h not in (*SETTINGS, *OTHERS, *BESIDE) and values(h)]
    panels = [(x, y, x) for y in drawn for x in varied]
    if varied and len(values("precision")) > 1:
        panels.append(("recall", "precision", varied[-1]))
    path.unlink(missing_ok=True)
    if not panels:
        return False
    columns = 2 if len(varied) == 2 else min(3, len(panels))
    height = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(6 * columns, 3.2 * height), dpi=100, layout="constrained")
    axes = [*figure.subplots(height, columns, squeeze=False).flat]
    for panel, names in zip(axes, panels, strict=False):
        _panel(panel, lines, *names)
        _errors(panel, results, *names)
    for panel in axes[len(panels) :]:
        panel.axis("off")
    figure.savefig(path)
    return True


def _panel(axes: Axes, lines: Sequence[Row], x: str, y: str, along: str) -> None:
    """Plot y over x, with one line for jobs that differ in `along` and its consequences alone."""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    follows = {"passes": ("passes", "steps"), "guidance": ("passes", "guidance")}[along]
    differ = lambda head: len({_text(r.get(head)) for r in lines}) > 1
    apart = [h for h in (*SETTINGS, *OTHERS) if h not in follows and differ(h)]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in lines:
        if all(_number(row.get(head)) for head in (x, y, along)):
            groups.setdefault(tuple(_text(row[h]) for h in apart), []).append(row)
    names, settings = _labels(apart, [*groups])
    few = len({*names}) <= len(STYLES) and len({*settings}) > 1
    coloured = settings if few else [*zip(names, settings, strict=True)]
    for i, members in enumerate(groups.values()):
        points = np.array([[r[x], r[y]] for r in sorted(members, key=lambda r: r[along])])
        style = STYLES[[*dict.fromkeys(names)].index(names[i]) % len(STYLES)]
        colour = LINES[[*dict.fromkeys(coloured)].index(coloured[i]) % len(LINES)]
        label = ", ".join(names[i] + settings[i])
        axes.plot(*points.T, style, color=colour, markersize=4, label=label)
    reached: set[Any] = {r.get(REAL.get(y, "")) for r in lines} - {None}
    for value in reached:
        axes.axhline(value, color="grey", linestyle=":", label=REAL[y])
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    if x == "passes":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
    if any(axes.get_legend_handles_labels()):  # a single line needs no legend
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _labels(
    heads: Sequence[str], groups: Sequence[tuple[str, ...]]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the names of each line, which choose styles, and its settings, which choose colours.

    The settings alone choose the colours only where there are few names.
    """
    by_head = [dict(zip(heads, values, strict=True)) for values in groups]
    names = [tuple(v for h, v in of.items() if h in NAMES) for of in by_head]
    return names, [tuple(f"{h} {v}" for h, v in of.items() if h not in NAMES) for of in by_head]


def _errors(axes: Axes, results: Sequence[Mapping[str, Any]], x: str, y: str, _: str) -> None:
    """Draw the interval of each y where it was measured."""
    for result in results:
        metric, _, name = _places(result).get(y, "").partition(".")
        interval: Any = inside(result, f"{metric}.intervals.{name}")
        at: Any = rows([result])[0].get(x)
        if isinstance(interval, Sequence) and len(interval) == 2 and _number(at):
            axes.vlines(at, *interval, color="grey", alpha=0.5, linewidth=1)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
