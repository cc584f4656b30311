"""Members of uncompressed tar files by their place, which are read without unpacking anything."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import NamedTuple

BLOCK = 512


class Member(NamedTuple):
    """A file in a tar file: its name, where its content begins, and its length in bytes."""

    name: str
    start: int
    size: int


def members(path: Path) -> list[Member]:
    """Return the plain files in a tar file in their order; links and folders are left out.

    Names are those that the archive states: nothing is written, and no name is used as a path.
    Raises ValueError for a file that is compressed, damaged or cut off; the message names the last
    intact member.
    """
    found = []
    last = ""
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                last = info.name
                if info.isreg() and not info.issparse():
                    found.append(Member(info.name, info.offset_data, info.size))
            end = archive.offset  # a damaged header ends the iteration as the end does
        with path.open("rb") as file:
            file.seek(end)
            block = file.read(BLOCK)
    except (tarfile.TarError, OSError, EOFError) as error:
        what = f" after {last}" if last else "; needs an uncompressed .tar"
        raise ValueError(f"{path}: cannot be read{what} ({error})") from error
    if block != bytes(BLOCK):
        what = "damaged" if len(block) == BLOCK else "cut off"
        raise ValueError(f"{path}: is {what} after {last}")
    return found


def content(path: Path, member: Member) -> bytes:
    """Return the content of a member; raise ValueError where the file is shorter than it was."""
    with path.open("rb") as file:
        file.seek(member.start)
        read = file.read(member.size)
    if len(read) < member.size:
        raise ValueError(f"{path}: {member.name}: has {len(read)} of {member.size} bytes")
    return read
