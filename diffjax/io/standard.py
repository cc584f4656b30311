"""Standard files behind published numbers: their addresses and checksums, and downloads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from diffjax.io.fetch import Remote, fetch, sha256


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
            raise ValueError(f"{setting}={named!r}: no such file; standard file: {standard.url}")
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
        raise ValueError(
            f"{path}: has the SHA-256 {sha}, not {standard.sha256}: delete this damaged file"
        )
    return Weights(path, standard.sha256, f"standard weights {standard.url}")


def cache() -> Path:
    """Return the user's folder for files that can be downloaded again."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "diffjax" / "weights"


def download(standard: Standard, path: Path, setting: str) -> None:
    """Download the file; the same call resumes an interrupted download.

    Raises ValueError where it cannot be downloaded or has another SHA-256.
    """
    try:
        fetch(Remote(standard.url, standard.name, standard.sha256), path)
    except ValueError as error:
        raise ValueError(
            f"{setting}: not set, and {error}; download the file and set {setting}=PATH"
        ) from error
