"""Arrays in files to which rows are appended, so that an interrupted command resumes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.config import ConfigError
from diffjax.files import write_text
from diffjax.io.writing import writing


class Rows:
    """An .npy file of a known shape to which rows are appended, and which may be taken up again.

    first: the number of rows that are there already; what stands behind them is cut off. Raises
    ConfigError for a file with fewer rows.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, first: int = 0):
        self._dtype, header = np.dtype(dtype), io.BytesIO()
        facts = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(header, facts | {"shape": shape})
        begins = header.getvalue()
        end = len(begins) + first * self._dtype.itemsize * int(np.prod(shape[1:]))
        self._file = path.open("r+b" if first else "wb")
        if first and (self._file.read(len(begins)) != begins or path.stat().st_size < end):
            self._file.close()
            raise ConfigError(f"{path}: is not the file that was begun; remove its folder")
        if not first:
            self._file.write(begins)
        self._file.truncate(end)
        self._file.seek(end)

    def append(self, rows: np.ndarray) -> None:
        """Append rows of the shape and type of the file."""
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())

    def settle(self) -> None:
        """Wait until all rows are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def claimed(out: Path, names: Sequence[str], settings: Mapping[str, Any], what: str) -> Any:
    """Return what `record` has stated as done in a folder, after a check that it is for this work.

    A new folder is created, and has nothing done: None. names: the files that describe finished and
    unfinished work, of which each holds the settings. what: the word for the contents. Raises
    ConfigError for a folder with other files, and for one of other settings.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     record(Path(place), "unfinished.json", {"half": True}, 5)
    ...     claimed(Path(place), ("done.json", "unfinished.json"), {"half": True}, "rows")
    5
    """
    file = next((out / name for name in names if (out / name).is_file()), None)
    if file is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"--out={out}: holds other files; needs a new or an empty folder")
        with writing(f"--out={out}"):
            out.mkdir(parents=True, exist_ok=True)
        return None
    try:
        stated = json.loads(file.read_text())
        there, done = stated["settings"], stated.get("done")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: cannot be read; remove {out}") from error
    for name, here in settings.items():
        if there.get(name) != here:
            raise ConfigError(
                f"--out={out}: holds {what} of other settings: {name} is {there.get(name)!r} "
                f"there and {here!r} here; use another folder"
            )
    return done


def record(
    out: Path, name: str, settings: Mapping[str, Any], done: Any, files: Iterable[Rows] = ()
) -> None:
    """Record what is done of unfinished work in a folder, once all rows are on the disk."""
    with writing(f"--out={out}"):
        for file in files:
            file.settle()
        write_text(out / name, json.dumps({"settings": settings, "done": done}) + "\n")


def finished(out: Path, name: str) -> None:
    """Remove the record of work that is finished, and what killed processes have left of it."""
    with writing(f"--out={out}"):
        for file in (out / name, *out.glob(f"{name}.*.tmp")):
            file.unlink()
