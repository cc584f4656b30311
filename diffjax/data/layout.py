"""How the folders of a data set are read: as splits, as classes, or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from diffjax.data.walk import Walk, shown

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")
"""Names of folders that are splits, in any case."""
_WORDS = rf"(?:({'|'.join(TRAIN)})|{'|'.join(TEST + VALIDATION)})"
LIKE = re.compile(rf"(?:.*[^a-z])?{_WORDS}(?:[^a-z].*)?")
"""Names like `training_set`, `val2017`, `images-test`; the group says that it is for training."""


@dataclass(frozen=True)
class Layout:
    """Folders below the root that are the splits: `held_out` is "" where there is but one set,
    `train` where that is in the root itself. aside: what is in neither, in words.
    """

    train: str = ""
    held_out: str = ""
    aside: tuple[str, ...] = ()

    def part(self, walked: Walk, split: str) -> tuple[Path, list[PurePath]]:
        """The folder of a split, or of the one set, and the paths of its images in it."""
        name = self.held_out if split == "test" and self.held_out else self.train
        if not name:
            return walked.root, [*walked.inside]
        return walked.root / name, [
            PurePath(*p.parts[1:]) for p in walked.inside if p.parts[0] == name and len(p.parts) > 1
        ]

    def folders(self, root: Path) -> list[Path]:
        """Those of all splits."""
        return [root / name for name in dict.fromkeys((self.train, self.held_out or self.train))]


def layout(walked: Walk, described: bool = False) -> Layout:
    """How the folders with images are to be read.

    described: a table in the root says what each image is. Raises ValueError for folders that may
    be splits or classes, which would be a guess.
    """
    root, folders = walked.root, walked.folders
    train, test, validation = (
        _one(root, [name for name in folders if name.lower() in names])
        for names in (TRAIN, TEST, VALIDATION)
    )
    if train and (test or validation):
        if described:
            raise ValueError(
                f"{shown(root)}: a table beside the folders {train} and {test or validation}; "
                f"needs one in each of them"
            )
        held_out = test or validation
        return Layout(train, held_out, _aside(walked, (train, held_out)))
    if described:
        return Layout()
    _refuse_guesses(walked, train, test or validation)
    if folders == [train] and not any(len(p.parts) == 1 for p in walked.inside):
        return Layout(train)
    return Layout()


def _one(root: Path, names: Sequence[str]) -> str:
    """The folder of a split, "" where there is none."""
    if len(names) > 1:
        raise ValueError(f"{shown(root)}: {' and '.join(names)} are the same split; needs one")
    return names[0] if names else ""


def _aside(walked: Walk, taken: Sequence[str]) -> tuple[str, ...]:
    """Images beside the two splits, which no split has."""
    tops = [p.parts[0] if len(p.parts) > 1 else "" for p in walked.inside]
    spoken = lambda name: shown(name) if name else "no folder"
    names = sorted({*tops} - {*taken})
    return tuple(f"images in {spoken(name)} {tops.count(name)}" for name in names)


def _refuse_guesses(walked: Walk, train: str, held_out: str) -> None:
    """Raise ValueError where folders look like splits and are not both there by a known name."""
    root, folders = shown(walked.root), walked.folders
    listed = ", ".join(map(shown, folders[:5]))
    known = f"{TRAIN[0]} and {TEST[0]} (or {VALIDATION[0]})"
    like = [match for name in folders if (match := LIKE.fullmatch(name.lower()))]
    both = {bool(match[1]) for match in like} == {True, False}
    if both and len(like) == len(folders):
        raise ValueError(f"{root}: {listed}: splits by their names; needs them as {known}")
    if held_out:
        raise ValueError(
            f"{root}: holds {held_out} and no {TRAIN[0]}: needs {known}, or "
            f"path={root}/{held_out}; a class needs another name"
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
