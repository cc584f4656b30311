"""Files that are there whole or not at all, and what is wrong with those of others."""

from __future__ import annotations

import errno
import mimetypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

ARRAYS = (".npy", ".npz", ".pt", ".pth", ".pkl", ".safetensors", ".parquet", ".tfrecord")
"""Endings that are not in Python's table of types."""


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


def read_arrays(path: Path, map_file: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or that of an .npy file as `x`, by what the file holds.

    map_file: leave an .npy file on disk, as a memory map. Raises ValueError in one line, which does
    not name the file, where it cannot be opened, is damaged, or is another thing. Nothing pickled
    is read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
            if not start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")):
                raise ValueError("neither an .npy nor an .npz file" if start else "empty")
            file.seek(0)
            if not map_file or start.startswith(b"PK"):
                return _loaded(file, is_full=start.startswith(b"PK\x03\x04"))
        return {"x": np.load(path, "r", allow_pickle=False)}
    except Exception as error:  # of zip, zlib, EOF, struct, the header's syntax, memory and more
        raise ValueError(f"cannot be read ({reason(error)})") from error


def _loaded(file: IO[bytes], is_full: bool) -> dict[str, np.ndarray]:
    """The arrays in an open file. is_full: whether it begins with one of an archive."""
    loaded = np.load(file, allow_pickle=False)
    if not isinstance(loaded, Mapping):
        return {"x": loaded}
    arrays = dict(loaded)
    if is_full and not arrays:
        raise ValueError("its table of contents is damaged")
    if others := [name for name, a in arrays.items() if not isinstance(a, np.ndarray)]:
        raise ValueError(f"{others[0]!r} in it is no array")
    return arrays


def reason(error: BaseException) -> str:
    """Why, in one line: what the system says of a file, or else what the error does."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def check_writable(path: Path) -> None:
    """Raise OSError where no file can be put at `path`, whose folder is there.

    It is tried, for a file system may be read-only for everybody; nothing stays behind.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.touch()
    part.unlink()


def check_place(path: Path) -> None:
    """Raise OSError where no file can be put at `path`, whose folders may have to be made."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    check_writable(path if folder == path.parent else folder / path.name)


def ending(path: Path) -> str:
    """The ending of a file's name in small letters, or "" where what follows the last dot is part
    of the name: that of a folder.

        >>> ending(Path("out.PNG")), ending(Path("samples_w1.5")), ending(Path("run.v2"))
        ('.png', '', '')
    """
    suffix = path.suffix.lower()
    known = suffix in ARRAYS or mimetypes.MimeTypes().guess_type(f"a{suffix}")[0]
    return suffix if known else ""
