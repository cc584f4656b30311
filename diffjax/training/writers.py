"""Writers of metrics and pictures: JSON lines, the source of truth, and dashboards."""

from __future__ import annotations

import importlib
import importlib.util
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from diffjax.arrays import catalogue
from diffjax.config import ConfigError
from diffjax.files import write_text

Edges = Sequence[int | float]


@runtime_checkable
class Writer(Protocol):
    """A writer, constructed by `(workdir, start, **settings)`, receives each metric of a run once.

    The metrics come in the order of steps. start: the step from which the run resumes; metrics of
    later steps that the writer already holds will be written again.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        """Write a histogram with `heights` (n,) of the bins between `edges` (n + 1,)."""
        ...

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write a picture. image: uint8 (H, W, C)."""
        ...

    def close(self) -> None: ...


class JSONL:
    """The writer of metrics.jsonl, which every run has: one JSON object per line, flushed at once.

    A line is `{"step": ..., name: value, ...}`. When a run resumes, lines of later steps and an
    incomplete last line are removed, since they will be written again. Bytes that a full disk does
    not accept are kept and written with the next line.
    """

    def __init__(self, workdir: Path, start: int):
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line.rstrip("\n") + "\n" for line in lines if _step(line, start) <= start]
        if kept != lines:
            write_text(path, "".join(kept))
        self._file, self._waiting = path.open("ab", buffering=0), b""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._waiting += json.dumps({"step": step, **values}).encode() + b"\n"
        while self._waiting:  # a disk that becomes full accepts only a part
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        pass

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        pass

    def close(self) -> None:
        self._file.close()


def _step(line: str, start: int) -> int:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return start + 1


class Tensorboard:
    """The writer of event files in tensorboard/, where events after `start` are purged.

    The caller's thread writes them: the thread of tensorboardX dies on a full disk, and the run
    would wait for it forever. Events that could not be written are lost, and the next events go to
    a new file.
    """

    package: ClassVar[str] = "tensorboardX"

    def __init__(self, workdir: Path, start: int):
        from tensorboardX import event_file_writer, summary

        protocol: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        self._event, self._summary = protocol.Event, summary
        self._folder, self._opened, self._file = workdir / "tensorboard", 0, None
        self._folder.mkdir(exist_ok=True)
        self._open = event_file_writer.EventsWriter
        self._write(start + 1, session_log=protocol.SessionLog(status=protocol.SessionLog.START))

    def _write(self, step: int, **fields: Any) -> None:
        try:
            if self._file is None:
                self._opened += 1
                self._file = self._open(str(self._folder / "events"), f".{self._opened}")
            self._file.write_event(self._event(wall_time=time.time(), step=step, **fields))
            self._file.flush()
        except OSError:
            self._file = None
            raise

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._write(step, summary=self._summary.scalar(name, value))

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        total, squares = float(np.sum(heights)), float(np.sum(heights**2))
        low, *limits = map(float, edges)
        summary = self._summary.histogram_raw(
            name, low, limits[-1], len(heights), total, squares, limits, heights.tolist()
        )
        self._write(step, summary=summary)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._write(step, summary=self._summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Wandb:
    """The writer to Weights & Biases, which keeps the id of the run in wandb.txt.

    A resumed run continues under its id. Steps after `start` appear twice, with equal values.
    """

    package: ClassVar[str] = "wandb"

    def __init__(self, workdir: Path, start: int, project: str = "diffjax"):
        self._wandb: Any = importlib.import_module("wandb")
        note = workdir / "wandb.txt"
        if not note.exists():
            note.write_text(secrets.token_hex(4) + "\n")
        config = json.loads((workdir / "config.json").read_text())
        where = {"project": project, "name": workdir.name, "dir": str(workdir)}
        self._run = self._wandb.init(
            **where, config=config, id=note.read_text().strip(), resume="allow"
        )
        # The step counter of wandb itself must never decrease.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        summary = self._wandb.Histogram(np_histogram=(heights, np.asarray(edges, float)))
        self._run.log({"step": step, name: summary})

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._run.log({"step": step, name: self._wandb.Image(image)})

    def close(self) -> None:
        self._run.finish()


WRITERS = catalogue(Tensorboard, Wandb)
"""The writers that a run may have besides metrics.jsonl."""


def check_writers(writers: Iterable[Callable[..., Writer]]) -> None:
    """Raise ConfigError where the package of a writer is not installed, before a run begins."""
    for writer in writers:
        package = getattr(getattr(writer, "function", writer), "package", None)
        if package and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"config.train.writers: {package} is not installed: pip install {package}"
            )
