"""The report of a run as an HTML page: all text from the run is escaped, pictures are inline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from diffjax import pages
from diffjax.report import evaluated, pictures, svg
from diffjax.report.record import Record, Series, inside

MOST_PICTURES = 12
NONE = "missing"
COLUMN = 4.8
"""Width in rem of a column of results that is not crowded."""
BLOCKS = """
.numbers, .numbers tbody { display: block; }
.numbers tr:first-child { display: none; }
.numbers tr:last-child { border: 0; }
.numbers tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: .3rem .8rem; padding: .6rem 0; border-bottom: 1px solid var(--rule); }
.numbers td, .numbers td:first-child { display: block; border: 0; padding: 0; text-align: left; overflow-wrap: anywhere; }
.numbers td::before { content: attr(data-name); display: block; color: var(--soft); font-size: .8rem; }
"""  # noqa: E501
"""Style of a table that does not fit the width of the page."""


def document(record: Record, real: np.ndarray | None, note: str = "") -> str:
    """Return a complete HTML page that loads nothing.

    real: a picture (H, W, 3) of the data; None where note says why there is none.

    >>> from pathlib import Path
    >>> from diffjax.report.record import read
    >>> page = document(read(Path("nowhere")), None, "the data are not here")
    >>> "the data are not here" in page
    True
    """
    title = record.workdir.resolve().name or "run"
    sections = {
        "": state(record),
        "Summary": summary(record),
        "Curves": plots(record),
        "Samples during training": history(record),
        "Evaluation": evaluation(record),
        "Data": data(record, real, note),
        "Config": config(record),
        "Launches": launches(record),
        "Notes": "".join(paragraph(text) for text in record.notes),
    }
    body = "\n".join(
        f"<section>{f'<h2>{name}</h2>' if name else ''}{html}</section>"
        for name, html in sections.items()
        if html
    )
    return pages.filled("diffjax.report", "page.html", title, body=body)


def state(record: Record) -> str:
    """Return the progress of the run, and time and commit of its last launch."""
    steps, last = record.setting("train.steps"), record.last
    done = isinstance(steps, int) and last >= steps
    parts = [f"{'Finished: step' if done else 'Step'} {last:,} of {steps if steps else '?'}"]
    if record.launches:
        began, commit = (record.launches[-1].get(k) for k in ("time", "commit"))
        parts += [f"last launch {str(began)[:16].replace('T', ' ')}"] if began else []
        parts += [f"commit {brief(commit)}"] if commit else []
    parts.append(f"page written {time.strftime('%Y-%m-%d %H:%M')}")
    return paragraph(", ".join(parts))


def summary(record: Record) -> str:
    """Return the last value of each metric, throughput, time and devices."""
    rate = record.series("images_per_s").values
    facts = {
        "loss": ending(record.series("loss")),
        "held-out loss, averaged parameters": ending(record.series("held_out/loss")),
        "held-out loss, raw parameters": ending(record.series("held_out/raw_loss")),
        "gradient norm": ending(record.series("grad_norm")),
        "images per second (median)": number(float(np.median(rate))) if len(rate) else "",
        "time spent in training steps": duration(record.seconds),
        "launches": str(len(record.launches)) if record.launches else "",
        "devices": inside(record.launches[-1], "devices") if record.launches else "",
    }
    facts = {k: v for k, v in facts.items() if v}
    return f'<div class="card">{table(facts)}</div>' if facts else paragraph("No metrics yet.")


def plots(record: Record) -> str:
    """Return the figures: losses, loss by noise level, gradient norm and throughput."""
    series, marks = record.series, record.resumed
    losses = {
        "training": series("loss"),
        "held-out": series("held_out/loss"),
        "held-out, raw parameters": series("held_out/raw_loss"),
    }
    figures = [
        figure("Loss", losses, marks),
        levels(record),
        figure("Gradient norm", {"": series("grad_norm")}, marks),
        figure("Images per second", {"": series("images_per_s")}, marks, zero=True),
    ]
    return f'<div class="grid">{"".join(figures)}</div>' if any(figures) else ""


def figure(
    title: str, lines: Mapping[str, Series], marks: Sequence[int], zero: bool = False
) -> str:
    """Return a figure of curves with their names in their colours; "" where there are none."""
    lines = {name: line for name, line in lines.items() if len(line.steps)}
    if not lines:
        return ""
    keys = [f'<span class="key c{i}">{escape(name)}</span>' for i, name in enumerate(lines) if name]
    if marks:
        keys.append("dashed: the run resumed after a stop")
    picture = svg.curves(lines, f"{title} over training steps", marks, zero)
    caption = f"<figcaption>{''.join(keys)}</figcaption>" if keys else ""
    return f"<figure><h3>{escape(title)}</h3>{caption}{picture}</figure>"


def levels(record: Record) -> str:
    """Return the loss by log-SNR as a map."""
    prefix = "loss_at_logsnr/"
    rows = {}
    for name in record.names(prefix):
        row = record.series(name)
        try:
            low = float(name.removeprefix(prefix))
        except ValueError:
            continue
        if (row.values > 0).any():
            rows[low] = Series(*(a[row.values > 0] for a in row))
    if not rows:
        return ""
    gaps = np.diff(sorted(rows))
    label = "Loss by noise level over training steps"
    picture, low, high = svg.heat(rows, label, float(gaps.min()) if len(gaps) else 1.0)
    caption = (
        "vertical axis: log-SNR, from noise to data; "
        f'<span class="scale">loss {svg.short(low)}<span class="ramp"></span>{svg.short(high)}'
        "</span>"
    )
    return f"<figure><h3>{label}</h3><figcaption>{caption}</figcaption>{picture}</figure>"


def history(record: Record) -> str:
    """Return samples from fixed seeds at some steps, the first and last included, with a slider."""
    steps = sorted(record.pictures)
    pick = np.unique(np.linspace(0, len(steps) - 1, MOST_PICTURES).round().astype(int))
    frames, unread = [], ""
    for step in [steps[i] for i in pick] if steps else []:
        source = pictures.embedded(record.pictures[step], len(pick) + 1)
        if not source:
            unread += paragraph(f"{record.pictures[step].name}: cannot be read")
            continue
        shown = f'<img src="{source}" alt="samples at step {step}">'
        frames.append(f"<figure><h3>step {step:,}</h3>{shown}</figure>")
    if not frames:
        return unread
    last = len(frames) - 1
    slider = f'<input type="range" min="0" max="{last}" value="{last}">'
    return (
        f'<div class="film">{"".join(frames)}</div>'
        f'<label class="slide" hidden>earlier {slider} later</label>{unread}'
    )


def evaluation(record: Record) -> str:
    """Return bits per dimension, and one line per job of samples, with their protocols."""
    return _bits(record) + _samples(record)


def _bits(record: Record) -> str:
    """Return each metric of the network, with its protocol."""
    measured = record.evaluation.get("network")
    measured = measured if isinstance(measured, dict) else {}
    shown = {k: flat(v) for k, v in measured.items() if isinstance(v, dict)}
    return "".join(
        f"<details><summary>{escape(name)}: {number(facts.get('bits'))} bits/dim</summary>"
        f'<div class="card">{table(facts)}</div></details>'
        for name, facts in shown.items()
    )


def _samples(record: Record) -> str:
    measured = record.evaluation.get("results")
    results = [r for r in measured if isinstance(r, dict)] if isinstance(measured, list) else []
    if not results:
        return ""
    rows = evaluated.rows(results)
    facts = flat(inside(results[0], "protocol"))
    facts |= {k: record.evaluation.get(k) for k in ("time", "commit")}
    picture = pictures.embedded(record.workdir / "evaluation.png", MOST_PICTURES + 1)
    figure = f'<figure><img src="{picture}" alt="trade-offs"></figure>' if picture else ""
    return (
        f'<div class="card wide">{wide_table(rows)}</div>'
        '<p class="soft">Frechet: distance between samples and real items; floor: distance between '
        "two halves of the real items; class agrees, of real: share of samples, and of held-out "
        "items, to which a classifier assigns their class; nearest train, held-out: median "
        "distance of samples, and of held-out items, to the nearest training item; authentic: "
        "share of samples farther from that item than its nearest other training item.</p>"
        f"{figure}"
        "<details><summary>Protocol of the first row</summary>"
        f'<div class="card">{table(facts)}</div></details>'
    )


def wide_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with one line per row.

    Where the page is too narrow for it, each row becomes a block of values below their names, so
    that nothing is cut off.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    cell = lambda name, value: f'<td data-name="{escape(name)}">{number(value)}</td>'
    lines = "".join(f"<tr>{''.join(cell(k, v) for k, v in row.items())}</tr>" for row in rows)
    needs = f"@container (max-width: {COLUMN * len(rows[0]):g}rem)"
    return (
        f"<style>{needs} {{ {BLOCKS} }}</style>"
        f'<table class="numbers"><tr>{head}</tr>{lines}</table>'
    )


def data(record: Record, real: np.ndarray | None, note: str) -> str:
    """Return the data that the run was trained on."""
    facts = flat(record.setting("data") or {}) | flat(record.form)
    shown = f'<div class="card">{table(facts)}</div>' if facts else ""
    if real is not None:
        source = pictures.drawn(real, MOST_PICTURES + 1)
        picture = f'<img src="{source}" alt="training data">'
        shown += f'<figure class="real"><h3>Real items</h3>{picture}</figure>'
    return f'<div class="grid loose">{shown}</div>' + (paragraph(note) if note else "")


def config(record: Record) -> str:
    """Return all settings, section by section."""
    plain = {k: v for k, v in record.config.items() if not isinstance(v, dict)}
    named = {k: v for k, v in record.config.items() if isinstance(v, dict)}
    parts = [("general", plain), *named.items()]
    cards = [
        f'<div class="card"><h3>{text(name)}</h3>{table(flat(values))}</div>'
        for name, values in parts
        if values
    ]
    return f'<div class="columns">{"".join(cards)}</div>' if cards else ""


def launches(record: Record) -> str:
    """Return time, first step, commit and command of each launch."""
    rows = [
        table(
            {
                "time": launch.get("time"),
                "from step": launch.get("step"),
                "commit": launch.get("commit"),
                "command": joined(launch.get("command"), " "),
            }
        )
        for launch in record.launches
    ]
    cards = "".join(f'<div class="card">{row}</div>' for row in rows)
    summary = f"<summary>All {len(rows)} launches, oldest first</summary>"
    return f"<details>{summary}{cards}</details>" if rows else ""


def table(facts: Mapping[str, Any]) -> str:
    """Return a table of names and values, one line each."""
    lines = (f"<tr><th>{text(k)}</th><td>{number(v)}</td></tr>" for k, v in facts.items())
    return f'<table class="facts">{"".join(lines)}</table>'


def flat(values: Any, place: str = "") -> dict[str, Any]:
    """Return nested fields by their dotted names, `name` before the others."""
    if not isinstance(values, Mapping) or not values:
        return {place: values} if place else {}
    fields = sorted(values.items(), key=lambda field: field[0] != "name")
    parts = (flat(v, f"{place}.{k}" if place else str(k)) for k, v in fields)
    return {k: v for part in parts for k, v in part.items()}


def paragraph(content: str) -> str:
    """Return a paragraph of escaped text."""
    return f'<p class="soft">{text(content)}</p>'


def text(value: Any) -> str:
    """Return any value as escaped text."""
    return escape(str(value)) if value is not None else NONE


def brief(commit: Any) -> str:
    """Return the first digits of a commit, and its suffix if the code was changed."""
    name, dash, changed = str(commit).partition("-")
    return name[:10] + dash + changed


def number(value: Any) -> str:
    """Return numbers to four digits, and other values as escaped text."""
    return f"{value:.4g}" if isinstance(value, float) else text(joined(value, ", "))


def joined(value: Any, by: str) -> Any:
    """Return a list as one text; other values unchanged."""
    return by.join(map(str, value)) if isinstance(value, list) else value


def ending(series: Series) -> str:
    """Return the last value of a series as text; "" for an empty series."""
    return f"{series.values[-1]:.4g}" if len(series.steps) else ""


def duration(seconds: float) -> str:
    """Format a time as in 1 h 2 min, 3 min 4 s or 5 s; "" for 0."""
    whole = round(seconds)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n)
