"""The files of a workdir, as far as they can be read: a run may still write, or was killed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Series(NamedTuple):
    """Values (N,) at increasing steps (N,), all finite.

    >>> series = Series(np.array([100, 200]), np.array([0.5, 0.4]))
    >>> float(series.values[-1])
    0.4
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Record:
    """The files of a run; missing ones are empty.

    notes: one line for each file that could not be read. rows: the lines of metrics.jsonl.
    pictures: paths of sample pictures by step.

    >>> record = Record(Path("run"), {}, {}, [], [{"step": 100, "loss": 0.5}], {}, {}, [])
    >>> record.series("loss").values.tolist(), record.last
    ([0.5], 100)
    """

    workdir: Path
    config: dict[str, Any]
    form: dict[str, Any]
    launches: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    evaluation: dict[str, Any]
    pictures: dict[int, Path]
    notes: list[str]

    def series(self, name: str) -> Series:
        """Return the metric `name` of metrics.jsonl; it is empty where no value is a number."""
        points = [(row["step"], row[name]) for row in self.rows if _finite(row.get(name))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return Series(np.array(steps, np.int64), np.array(values, np.float64))

    def names(self, prefix: str) -> list[str]:
        """Return the metrics whose names begin with `prefix`, in the order of the file."""
        return list(dict.fromkeys(k for row in self.rows for k in row if k.startswith(prefix)))

    def setting(self, place: str) -> Any:
        """Return the field of the config at a dotted place; None where there is none."""
        return inside(self.config, place)

    @property
    def last(self) -> int:
        """The last step that was written."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def resumed(self) -> list[int]:
        """The steps from which later launches resumed."""
        steps = [launch.get("step") for launch in self.launches[1:]]
        return sorted({s for s in steps if isinstance(s, int) and 0 < s < self.last})

    @property
    def seconds(self) -> float:
        """Seconds spent in training steps, by the throughput that was written."""
        rate, batch = self.series("images_per_s"), self.setting("train.batch_size")
        if not isinstance(batch, int) or not (rate.values > 0).all():
            return 0.0
        return float((np.diff(rate.steps, prepend=0) * batch / rate.values).sum())


def read(workdir: Path) -> Record:
    """Read all files of `workdir` that can be read.

    >>> read(Path("nowhere")).notes[:2]
    ['metrics.jsonl: missing', 'config.json: missing']
    """
    notes: list[str] = []
    rows = [r for r in _lines(workdir / "metrics.jsonl", notes) if isinstance(r.get("step"), int)]
    return Record(
        workdir=workdir,
        config=read_object(workdir / "config.json", notes),
        form=read_object(workdir / "data.json", notes),
        launches=_lines(workdir / "launches.jsonl", notes),
        rows=sorted(rows, key=lambda row: row["step"]),
        evaluation=read_object(workdir / "evaluation.json", notes),
        pictures=_pictures(workdir / "samples"),
        notes=notes,
    )


def inside(value: Any, place: str) -> Any:
    """Return the value at a dotted place in nested dicts; None where there is none."""
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return the fields of a JSON file; {} where there are none, which is noted in `notes`."""
    try:
        fields = json.loads(path.read_text())
        if isinstance(fields, dict):
            return fields
        notes.append(f"{path.name}: needs an object with fields")
    except FileNotFoundError:
        notes.append(f"{path.name}: missing")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name}: cannot be read ({error})")
    return {}


def _lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        notes.append(f"{path.name}: missing")
        return []
    rows = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            rows.append(value)
    if len(rows) < len(lines):
        notes.append(f"{path.name}: {len(lines) - len(rows)} damaged lines are left out")
    return rows


def _pictures(folder: Path) -> dict[int, Path]:
    named = ((p.stem.removeprefix("step_"), p) for p in sorted(folder.glob("step_*.png")))
    return {int(step): path for step, path in named if step.isdecimal()}
