"""Arrays in files to which rows are appended, so that an interrupted command resumes."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from diffjax.config import ConfigError


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
