"""Where metrics and pictures go: JSON lines, the source of truth, and what draws them."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from diffjax.arrays import catalogue
from diffjax.config import ConfigError

Edges = Sequence[int | float]


@runtime_checkable
class Writer(Protocol):
    """Gets every metric of a run once, in order of steps; made by `(workdir, start, **settings)`.

    start: the step that the run goes on from. What a writer holds of later steps will come again.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        """heights (n,): of the bins between edges (n + 1,)."""
        ...

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """image: uint8 (H, W, C)."""
        ...

    def close(self) -> None: ...


class JSONL:
    """metrics.jsonl: one JSON object per line, `{"step": ..., name: value, ...}`, flushed at once.

    On resume the lines of later steps, and a half-written last one, are removed: they will be
    written again. Every run has it.
    """

    def __init__(self, workdir: Path, start: int):
        path = workdir / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line.rstrip("\n") + "\n" for line in lines if _step(line, start) <= start]
        if kept != lines:
            part = path.with_suffix(".tmp")
            part.write_text("".join(kept))
            os.replace(part, path)
        self._file = path.open("a")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

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
    """tensorboard/: event files; events after `start` are purged."""

    def __init__(self, workdir: Path, start: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        total, squares = float(np.sum(heights)), float(np.sum(heights**2))
        low, *limits = map(float, edges)
        self._writer.add_histogram_raw(
            name, low, limits[-1], len(heights), total, squares, limits, heights.tolist(), step
        )

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Weights & Biases, under the id in wandb.txt, so that a run that goes on stays one run.

    Steps after `start` come twice, with equal values. Raises ConfigError where the package is not
    installed.
    """

    def __init__(self, workdir: Path, start: int, project: str = "diffjax"):
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ModuleNotFoundError as error:
            raise ConfigError(
                "config.train.writers: wandb is not installed: pip install wandb"
            ) from error
        note = workdir / "wandb.txt"
        if not note.exists():
            note.write_text(secrets.token_hex(4) + "\n")
        config = json.loads((workdir / "config.json").read_text())
        where = {"project": project, "name": workdir.name, "dir": str(workdir)}
        self._run = self._wandb.init(
            **where, config=config, id=note.read_text().strip(), resume="allow"
        )
        self._run.define_metric("*", step_metric="step")  # its own count must never go back

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def histogram(self, step: int, name: str, edges: Edges, heights: np.ndarray) -> None:
        made = self._wandb.Histogram(np_histogram=(heights, np.asarray(edges, float)))
        self._run.log({"step": step, name: made})

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._run.log({"step": step, name: self._wandb.Image(image)})

    def close(self) -> None:
        self._run.finish()


WRITERS = catalogue(Tensorboard, Wandb)
"""What a run may write besides metrics.jsonl."""
