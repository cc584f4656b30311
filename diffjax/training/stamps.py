"""SHA-256 sums of the files that describe a run, in the format of `sha256sum --check`.

A digit of a config that is changed by a disk error or by hand would silently change the samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from diffjax.files import write_text

SUMS = "SHA256SUMS"


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files by name, and their sums.

    Until all files are written, the sums of the old files remain valid. A process that is killed in
    between thus leaves files that each match one of their sums.
    """
    new = {name: [_sum(text.encode())] for name, text in texts.items()}
    old = {name: _sum((folder / name).read_bytes()) for name in texts if (folder / name).is_file()}
    _write(folder, {name: [*sums, *filter(None, [old.get(name)])] for name, sums in new.items()})
    for name, text in texts.items():
        write_text(folder / name, text)
    _write(folder, new)


def changed(folder: Path) -> str:
    """Return one line about the files that have changed since they were written, "" for none.

    A folder without sums, from an older version or after deletion of the sums, is not checked.
    """
    try:
        lines = [line.split(maxsplit=1) for line in (folder / SUMS).read_text().splitlines()]
    except (OSError, ValueError):
        return ""
    known: dict[str, list[str]] = {}
    for sum_, name in (line for line in lines if len(line) == 2):
        known.setdefault(name.strip(), []).append(sum_)
    there = {name: folder / name for name in known if (folder / name).is_file()}
    other = [name for name, path in there.items() if _sum(path.read_bytes()) not in known[name]]
    if not other:
        return ""
    return (
        f"{folder}: {', '.join(other)} changed since it was written ({SUMS}): if you did not edit "
        f"it, restore it from a copy; if you did, delete {folder / SUMS}"
    )


def _write(folder: Path, sums: Mapping[str, list[str]]) -> None:
    lines = [f"{sum_}  {name}\n" for name, each in sums.items() for sum_ in each]
    write_text(folder / SUMS, "".join(lines))


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
