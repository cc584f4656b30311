"""The CPU time of training, without compilation, reading, pictures and checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

FILE = "cpu.jsonl"


class Clock:
    """A writer of metrics that notes the CPU seconds of the process at each line, in `FILE`."""

    def __init__(self, workdir: Path, start: int):
        self._file = (workdir / FILE).open("a", buffering=1)
        self._last = 0

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if "loss" in values and step > self._last:  # not the line of held-out metrics
            last, self._last = self._last, step
            line = {"step": step, "after": last, "cpu": round(time.process_time(), 2)}
            self._file.write(json.dumps(line) + "\n")

    def histogram(self, step: int, name: str, edges: Any, heights: Any) -> None:
        pass

    def image(self, step: int, name: str, image: Any) -> None:
        pass

    def close(self) -> None:
        self._file.close()


def seconds_per_step(workdir: Path) -> float:
    """Return the CPU seconds of a step: the median over the intervals between two lines.

    The first line of each launch is left out, since its interval holds the compilation; the median
    leaves out the few intervals with pictures and checkpoints.
    """
    lines = [json.loads(line) for line in (workdir / FILE).read_text().splitlines()]
    each = [
        (b["cpu"] - a["cpu"]) / (b["step"] - a["step"])
        for a, b in pairwise(lines)
        if b["after"] == a["step"]
    ]
    return float(np.median(each))
