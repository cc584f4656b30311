"""Atomic writing of files, reading of arrays, and messages about files that cannot be used."""

from __future__ import annotations

import errno
import itertools
import mimetypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

ARRAYS = (".npy", ".npz", ".pt", ".pth", ".pkl", ".safetensors", ".parquet", ".tfrecord")
POINTS = (".ply", ".stl", ".xyz", ".sdf", ".mol", ".mol2", ".pdb", ".cif")
"""Suffixes that Python's table of file types lacks, also of files that no kind of data has."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which atomically becomes `path` at the end of the context.

    No reader ever sees a part of the file. If writing fails, `path` is unchanged.
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
    """Write a text file, atomically."""
    with whole(path) as part:
        part.write_text(text)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name to an .npz file, atomically."""
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def read_arrays(path: Path, map_file: bool = False) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name, or the array of an .npy file as `x`.

    The contents of the file decide which format it has; pickled objects are never read. map_file:
    open an .npy file as a memory map. Raises ValueError, with one line that does not name the file,
    for a file that cannot be opened, is damaged, or has another format.
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
    except Exception as error:  # zip, zlib, EOF, struct, header syntax, memory and other errors
        raise ValueError(f"cannot be read ({reason(error)})") from error


def _loaded(file: IO[bytes], is_full: bool) -> dict[str, np.ndarray]:
    """Read the arrays in an open file. is_full: True if the file is a non-empty archive."""
    loaded = np.load(file, allow_pickle=False)
    if not isinstance(loaded, Mapping):
        return {"x": loaded}
    arrays = dict(loaded)
    if is_full and not arrays:
        raise ValueError("its table of contents is damaged")
    if others := [name for name, a in arrays.items() if not isinstance(a, np.ndarray)]:
        raise ValueError(f"{others[0]!r} in it is not an array")
    return arrays


def reason(error: BaseException) -> str:
    """Return the reason of an error in one line: the text of the operating system, or the message.

    The line has at most 200 characters.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def check_writable(path: Path) -> None:
    """Raise OSError where no file can be written at `path`, in an existing folder.

    The check creates a temporary file and removes it, since a file system may be read-only whatever
    the permissions.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.touch()
    part.unlink()


def check_place(path: Path) -> None:
    """Raise OSError where no file can be written at `path`, whose folders need not exist yet."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    check_writable(path if folder == path.parent else folder / path.name)


def ending(path: Path) -> str:
    """Return the suffix of a file in lower case, or "" for the name of a folder.

    Text after the last dot that is not a known suffix counts as part of the name of a folder.

        >>> ending(Path("out.PNG")), ending(Path("samples_w1.5")), ending(Path("run.v2"))
        ('.png', '', '')
    """
    suffix = path.suffix.lower()
    known = suffix in (*ARRAYS, *POINTS) or mimetypes.MimeTypes().guess_type(f"a{suffix}")[0]
    return suffix if known else ""


def unused(path: Path) -> Path:
    """Return `path`, or samples_2.png, samples_3.png, ... beside it where files exist already.

    >>> unused(Path("nowhere/samples.png")).name
    'samples.png'
    """
    numbered = (path.with_stem(f"{path.stem}_{k}") for k in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not p.exists())


def beside(checkpoint: Path, name: str) -> Path:
    """Return an unused path of this name in the folder of a run, or beside a checkpoint file.

    >>> beside(Path(__file__), "restored.png").parent == Path(__file__).parent
    True
    """
    return unused((checkpoint.parent if checkpoint.is_file() else checkpoint) / name)
