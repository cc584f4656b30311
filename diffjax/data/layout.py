"""Interpretation of the folders of a data set as splits, as classes, or as neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from diffjax.data.source import check_split, part
from diffjax.data.walk import Walk, shown, tell, walk

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")
"""Names of folders that are splits, in upper or lower case."""
_WORDS = rf"(?:({'|'.join(TRAIN)})|{'|'.join(TEST + VALIDATION)})"
LIKE = re.compile(rf"(?:.*[^a-z])?{_WORDS}(?:[^a-z].*)?")
"""Names like `training_set`, `val2017`, `images-test`; the group matches a training split."""


@dataclass(frozen=True)
class Layout:
    """The folders below the root that hold the splits.

    train: the training split, "" where the root itself holds the images. held_out: the held-out
    split, "" where there is only one set. aside: texts that count the images in neither split.
    """

    train: str = ""
    held_out: str = ""
    aside: tuple[str, ...] = ()

    def part(self, walked: Walk, split: str) -> tuple[Path, list[PurePath]]:
        """Return the folder of a split, or of the only set, and the paths of the images in it."""
        name = self.held_out if split == "test" and self.held_out else self.train
        if not name:
            return walked.root, [*walked.inside]
        return walked.root / name, [
            PurePath(*p.parts[1:]) for p in walked.inside if p.parts[0] == name and len(p.parts) > 1
        ]

    def folders(self, root: Path) -> list[Path]:
        """Return the folders of all splits."""
        return [root / name for name in dict.fromkeys((self.train, self.held_out or self.train))]


def layout(walked: Walk, described: bool = False) -> Layout:
    """Decide whether the folders with images are splits or classes.

    described: True if a table in the root describes each image. Raises ValueError for folders that
    could be either, as any choice would be a guess.
    """
    root, folders = walked.root, walked.folders
    train, test, validation = (
        _one(root, [name for name in folders if name.lower() in names])
        for names in (TRAIN, TEST, VALIDATION)
    )
    if train and (test or validation):
        if described:
            raise ValueError(
                f"{shown(root)}: holds a table beside the folders {train} and "
                f"{test or validation}; needs a table in each of them"
            )
        held_out = test or validation
        return Layout(train, held_out, _aside(walked, (train, held_out)))
    if described:
        return Layout()
    _refuse_guesses(walked, train, test or validation)
    if folders == [train] and not any(len(p.parts) == 1 for p in walked.inside):
        return Layout(train)
    return Layout()


@dataclass(frozen=True)
class Chosen:
    """The files of a split, with the labels (N,) of their classes, None without classes."""

    paths: list[Path]
    label: np.ndarray | None
    class_names: tuple[str, ...]


def files_of(
    source: str,
    path: str,
    endings: Sequence[str],
    split: str,
    *,
    holdout: float,
    classes: bool,
    noun: str,
) -> Chosen:
    """Return the files of a split in a folder, and say on stderr what else the folder holds.

    Folders `train` and `test` in `path` are the splits; otherwise the share `holdout` of the files
    is held out, by file name. source: the name of the source, for messages. endings: of the files,
    in lower case. classes: whether the folders, in alphabetical order, are the classes. noun: of an
    item, for messages. Raises ValueError for a folder without such files, by name.
    """
    check_split(split, source)
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"path={path!r}: no such folder; the form is name={source}:PATH")
    walked = walk(root, endings)
    if not walked.inside:
        wanted = " or ".join(f"*{ending}" for ending in endings)
        raise ValueError(f"path={path!r}: no files {wanted} in it")
    places = layout(walked)
    base, inside = places.part(walked, split)
    if split == "train":
        tell(root, len(walked.inside), noun, walked.left_out(), *places.aside)
    apart = bool(places.held_out)
    names = [p.as_posix() for p in inside]
    kept = part(names, "train" if apart else split, 0 if apart else holdout)
    files = [base / inside[i] for i in kept]
    if not classes:
        return Chosen(files, None, ())
    known = sorted({p.parts[0] for p in places.part(walked, "train")[1]})
    if loose := [p for p in inside if len(p.parts) < 2 or p.parts[0] not in known]:
        raise ValueError(f"classes=True: {shown(base / loose[0])} is in no folder of a class")
    label = np.array([known.index(inside[i].parts[0]) for i in kept], np.int32)
    return Chosen(files, label, tuple(known))


def _one(root: Path, names: Sequence[str]) -> str:
    """Return the folder of a split, "" without one; raise ValueError for several."""
    if len(names) > 1:
        raise ValueError(f"{shown(root)}: {' and '.join(names)} are the same split; keep one")
    return names[0] if names else ""


def _aside(walked: Walk, taken: Sequence[str]) -> tuple[str, ...]:
    """Return texts that count the images outside both splits, by folder."""
    tops = [p.parts[0] if len(p.parts) > 1 else "" for p in walked.inside]
    spoken = lambda name: shown(name) if name else "no folder"
    names = sorted({*tops} - {*taken})
    return tuple(f"images in {spoken(name)} {tops.count(name)}" for name in names)


def _refuse_guesses(walked: Walk, train: str, held_out: str) -> None:
    """Raise ValueError where folders look like splits but do not form a pair of known names."""
    root, folders = shown(walked.root), walked.folders
    listed = ", ".join(map(shown, folders[:5]))
    known = f"{TRAIN[0]} and {TEST[0]} (or {VALIDATION[0]})"
    like = [match for name in folders if (match := LIKE.fullmatch(name.lower()))]
    both = {bool(match[1]) for match in like} == {True, False}
    if both and len(like) == len(folders):
        raise ValueError(f"{root}: {listed}: are named like splits; needs the names {known}")
    if held_out:
        raise ValueError(
            f"{root}: holds {held_out} and no {TRAIN[0]}; needs {known}, or "
            f"path={root}/{held_out}; if {held_out} is a class, rename it"
        )
    deep = any(p.parts[0] == train and len(p.parts) > 2 for p in walked.inside)
    if train and len(folders) > 1 and deep:
        raise ValueError(
            f"{root}: {listed}: {train} holds folders itself, and is neither one of the classes "
            f"nor beside a held-out split; needs {known}, or path={root}/{train}"
        )
    splits = (*TRAIN, *TEST, *VALIDATION)
    if all(len(p.parts) > 2 and p.parts[1].lower() in splits for p in walked.inside):
        raise ValueError(
            f"{root}: {'/'.join(map(shown, walked.inside[0].parts[:2]))}: splits within classes; "
            f"needs {TRAIN[0]}/CLASS and {TEST[0]}/CLASS"
        )
