"""Standard files behind published numbers: their addresses and checksums, and downloads."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from diffjax.files import whole
from diffjax.progress import Progress

PART = 2**20


class Standard(NamedTuple):
    """A published file, identified by its SHA-256 in hex digits."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


class Weights(NamedTuple):
    """A file of weights; `about` says whether it is the standard one."""

    path: Path
    sha256: str
    about: str


def weights(
    standard: Standard, named: str = "", folder: Path | None = None, setting: str = "weights"
) -> Weights:
    """Return the file `named`, or the standard one in `folder`, to which it is downloaded once.

    folder: by default the user's cache. setting: the name of the setting `named` in messages.
    Raises ValueError where there is neither a file nor a network, and where the file in the folder,
    or the download, has another SHA-256.
    """
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ValueError(f"{setting}={named!r}: no such file; standard: {standard.url}")
        sha = sha256(path)
        if sha == standard.sha256:
            return Weights(path, sha, f"standard weights {standard.url}")
        return Weights(
            path,
            sha,
            f"{path.name}, not the standard weights ({standard.url}): its numbers do not compare "
            f"with published ones",
        )
    path = (folder or cache()) / standard.sha256[:12] / standard.name
    if not path.exists():
        download(standard, path, setting)
    elif (sha := sha256(path)) != standard.sha256:
        raise ValueError(f"{path}: SHA-256 {sha}, not {standard.sha256}: damaged; delete it")
    return Weights(path, standard.sha256, f"standard weights {standard.url}")


def cache() -> Path:
    """Return the user's folder for files that can be downloaded again."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "diffjax" / "weights"


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(standard: Standard, path: Path, setting: str) -> None:
    """Download the file, atomically.

    Raises ValueError where it cannot be downloaded or has another SHA-256.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(standard.url, timeout=30) as source, whole(path) as part:
            size = int(source.headers.get("Content-Length") or 0)
            with part.open("wb") as file:
                sha = copied(source.read, file, f"download {standard.name}", size)
            if sha != standard.sha256:
                raise ValueError(f"{standard.url}: SHA-256 {sha}, not {standard.sha256}: refused")
    except OSError as error:
        raise ValueError(
            f"{setting}: none given, and {standard.url} cannot be downloaded ({error}); bring it "
            f"here and give {setting}=PATH"
        ) from error


def copied(read: Callable[[int], bytes], file: IO[bytes], name: str, size: int) -> str:
    """Copy to a file, and return the SHA-256 of the copied bytes."""
    digest = hashlib.sha256()
    with Progress(name, size, "B") as progress:
        while part := read(PART):
            file.write(part)
            digest.update(part)
            progress.advance(len(part))
    return digest.hexdigest()
