"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` at the end, at once: nobody ever reads half of it.

    Where writing fails, `path` stays as it was.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        if part.exists():
            part.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """An .npz file."""
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)
