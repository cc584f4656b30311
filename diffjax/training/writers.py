"""Where metrics and pictures go: JSON lines, the source of truth, and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Writer(Protocol):
    """Gets every metric of a run once, in order of steps."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """image: uint8 (H, W, C)."""
        ...

    def close(self) -> None: ...


class JSONL:
    """One JSON object per line, `{"step": ..., name: value, ...}`, flushed at once.

    On resume at `start` the lines of later steps, and a half-written last one, are removed: they
    will be written again.
    """

    def __init__(self, path: Path, start: int):
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

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        pass

    def close(self) -> None:
        self._file.close()


def _step(line: str, start: int) -> int:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return start + 1


class TensorBoard:
    """Event files that `tensorboard --logdir` reads; events after `start` are purged."""

    def __init__(self, folder: Path, start: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
