"""Search of a folder for items, shared by training, preparation and evaluation.

Hidden files and folders are skipped and links are followed. All other files that are not items are
counted and reported, so that no file is dropped silently.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath

JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found")
"""Names that operating systems leave in folders, besides those that begin with a dot."""
STUBS = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
"""Formats that Pillow recognises but reads only with another program, or not at all."""


@functools.cache
def endings() -> tuple[str, ...]:
    """Return the suffixes of image files that the installed Pillow reads, in lower case."""
    from PIL import Image

    Image.init()
    known = Image.registered_extensions().items()
    return tuple(sorted(e for e, form in known if form in Image.OPEN and form not in STUBS))


def shown(path: PurePath | str) -> str:
    """Return a path as text to print or store; bytes that are not UTF-8 appear as `\\xff`."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass(frozen=True)
class Walk:
    """Sorted files under `root` with one of the wanted suffixes, and a record of everything else.

    inside: the paths of the files relative to `root`. others: the number of files with each other
    suffix. hidden: names that were skipped. broken: links that lead nowhere, and entries that are
    neither file nor folder. loops: links to a folder that contains them. bare: folders without a
    wanted file at any depth.
    """

    root: Path
    inside: tuple[PurePath, ...]
    others: Counter[str]
    hidden: tuple[str, ...]
    broken: tuple[str, ...]
    loops: tuple[str, ...]
    bare: tuple[str, ...]

    @property
    def folders(self) -> list[str]:
        """The sorted names of the folders in `root` that hold wanted files at any depth."""
        return sorted({p.parts[0] for p in self.inside if len(p.parts) > 1})

    def left_out(self, used: Collection[str] = ()) -> str:
        """Describe everything that was skipped in one line; "" where nothing was.

        used: names of files with other suffixes that are read, such as metadata.
        """
        others = self.others - Counter(_ending(name) for name in used)
        each = ", ".join(f"{ending or 'no ending'} {n}" for ending, n in others.most_common())
        parts = [f"files {others.total()} ({each})"] if others else []
        for what, names in (
            ("hidden", self.hidden),
            ("broken links", self.broken),
            ("links that lead back", self.loops),
            ("folders without any", self.bare),
        ):
            if names:
                more = ", ..." if len(names) > 3 else ""
                parts.append(f"{what} {len(names)} ({', '.join(names[:3])}{more})")
        return ", ".join(parts)


def tell(root: Path, number: int, noun: str, *left_out: str) -> None:
    """Print one line on stderr with the number of items and all that was skipped, if anything was.

    left_out: descriptions of what was skipped; empty ones are ignored.
    """
    if parts := [part for part in left_out if part]:
        line = f"{shown(root)}: {number} {noun}s; left out: {', '.join(parts)}"
        print(line, file=sys.stderr)


def walk(root: Path, wanted: Collection[str]) -> Walk:
    """Search `root` and all folders below it, including those that links lead to.

    wanted: suffixes in lower case. Raises ValueError for a folder that cannot be read.
    """
    inside: list[PurePath] = []
    others: Counter[str] = Counter()
    names: dict[str, list[str]] = {"hidden": [], "broken": [], "loops": [], "bare": []}

    def look(folder: Path, below: PurePath, around: tuple[str, ...]) -> int:
        before = len(inside)
        for entry in _entries(folder):
            path, kind = below / entry.name, _kind(entry)
            if entry.name.startswith(".") or entry.name in JUNK:
                names["hidden"].append(shown(path))
            elif kind == "folder":
                real = os.path.realpath(entry.path)
                if any(PurePath(known).is_relative_to(real) for known in around):
                    names["loops"].append(shown(path))
                elif not look(Path(entry.path), path, (*around, real)):
                    names["bare"].append(shown(path))
            elif kind != "file":
                names["broken"].append(shown(path))
            elif _ending(entry.name) in wanted:
                inside.append(path)
            else:
                others[_ending(entry.name)] += 1
        return len(inside) - before

    look(root, PurePath(), (os.path.realpath(root),))
    inside.sort(key=lambda p: p.parts)
    return Walk(root, tuple(inside), others, **{k: tuple(sorted(v)) for k, v in names.items()})


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise ValueError(f"{shown(folder)}: cannot be read ({error.strerror})") from error


def _kind(entry: os.DirEntry[str]) -> str:
    """Return `folder` or `file`, following links; "" for neither, such as a broken link."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:
        return ""


def _ending(name: str) -> str:
    return shown(PurePath(name).suffix.lower())
