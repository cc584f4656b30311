"""Samples of a job on disk: files of consecutive batches, in the layout of `sample --out`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.io.writing import writing

Arrays = dict[str, np.ndarray]
FILED = {"label": "arr_1"}
"""Names of conditions in files where other programs expect another name."""


def stored(folder: Path, num: int) -> list[Arrays]:
    """Return the consecutive batches in a folder from sample 0, cut at `num` samples.

    They stop before the first file that cannot be read, which is generated again with all later
    ones.
    """
    parts, count = [], 0
    while count < num and (folder / _file(count)).is_file():
        try:
            part = {k: v[: num - count] for k, v in read_arrays(folder / _file(count)).items()}
        except ValueError:
            break
        if not {"arr_0", "passes", "seconds"} <= {*part} or (parts and {*part} != {*parts[0]}):
            break
        parts.append(part)
        count += len(part["arr_0"])
    return parts


def keep(folder: Path, start: int, part: Arrays, facts: Mapping[str, Any]) -> None:
    """Write the batch that begins with sample `start`, and the facts of the job as job.json."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "job.json", json.dumps(facts, indent=2) + "\n")
        write_arrays(folder / _file(start), part)


def _file(start: int) -> str:
    return f"{start:08d}.npz"
