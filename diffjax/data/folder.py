"""`folder:<path>`: image files of any size, in one folder or in one folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffjax.data import metadata
from diffjax.data.decoded import Decoded
from diffjax.data.source import check_split, part

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
HELD_OUT = ("test", "val", "valid", "validation")


class _Files:
    """Image files, each with the label of its folder."""

    def __init__(self, paths: Sequence[Path], label: Sequence[int], names: Sequence[str]):
        self._paths, self._label, self.names = paths, label, names

    def __len__(self) -> int:
        return len(self._paths)

    def labels(self) -> Sequence[int]:
        return self._label

    def name(self, i: int) -> str:
        return str(self._paths[i])

    def read(self, index: Sequence[int]) -> list[tuple[Callable[[], Image.Image], int]]:
        from PIL import Image

        return [((lambda p=self._paths[i]: Image.open(p)), self._label[i]) for i in index]


def folder(
    split: str,
    path: str = "",
    size: int = 0,
    channels: int = 3,
    holdout: float = 0.1,
    unreadable: int = 0,
    columns: tuple[str, ...] = (),
) -> Decoded:
    """Images under `path`. The folders in it, in alphabetical order, are the classes.

    Where `path` holds folders `train` and `test` (or `val`, `valid`, `validation`), these are the
    splits; else a share `holdout` is held out by file name. size: height and width, for images of
    several sizes: the shorter side is resized to it, the centre kept. channels: 1 (grey) or 3.
    unreadable: how many files may turn out to be unreadable before the run stops; each is named.
    Where a metadata.jsonl or metadata.csv lies beside the images (a column `file_name`, others as
    they come), folders are no classes: its column `label` is, a name or a number, and its numeric
    columns, in their order, are the condition `vector`; columns of text are left out. columns: the
    numeric ones to take, by default all. Raises ValueError for a folder without images.
    """
    check_split(split, "a folder")
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"path={path!r}: no such folder; the form is name=folder:PATH")
    held_out = next((root / name for name in HELD_OUT if (root / name).is_dir()), None)
    classes = root
    if (root / "train").is_dir() and held_out:
        classes, holdout = root / "train", 0.0
        root, split = (classes if split == "train" else held_out), "train"
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in ENDINGS and p.is_file()]
    if not paths:
        raise ValueError(f"{root}: no images in it; known endings: {' '.join(ENDINGS)}")
    inside = [p.relative_to(root) for p in paths]
    if metadata.locate(root):
        parts = (classes, held_out) if classes != Path(path).expanduser() else (root,)
        tables = {f: metadata.read(file) for f in parts if f and (file := metadata.locate(f))}
        names, label, cond = _described(tables[root], [*tables.values()], inside, columns)
    elif columns:
        raise ValueError(f"columns={columns}: {root} holds none of {', '.join(metadata.NAMES)}")
    else:
        names, label, cond = *_class_of_each(root, classes, inside), {}
    chosen = part([p.as_posix() for p in inside], split, holdout)
    files = _Files([paths[i] for i in chosen], [label[i] for i in chosen], names)
    cond = {name: value[chosen] for name, value in cond.items()}
    return Decoded(files, size, channels, unreadable, cond)


def _class_of_each(
    root: Path, classes: Path, inside: Sequence[Path]
) -> tuple[list[str], list[int]]:
    """Names of the classes, which are folders in `classes`, and the label of each image."""
    found = {p.parts[0] for p in inside if len(p.parts) > 1}
    names = sorted(found if root == classes else _class_folders(classes))
    if unknown := sorted(found - set(names)):
        raise ValueError(
            f"{root / unknown[0]}: no such class in {classes}; known: {', '.join(names) or 'none'}"
        )
    if loose := [p for p in inside if len(p.parts) == 1 and names]:
        raise ValueError(
            f"{root / loose[0]}: stands beside the class folders {', '.join(names[:5])}; "
            f"needs images in class folders only, or in no folder"
        )
    return names, [names.index(p.parts[0]) if names else 0 for p in inside]


def _described(
    table: metadata.Table,
    tables: Sequence[metadata.Table],
    inside: Sequence[Path],
    columns: Sequence[str],
) -> tuple[list[str], list[int], dict[str, np.ndarray]]:
    """Names of classes, labels and conditions of images, from their table. Classes and columns are
    those of the tables of all splits, which must agree."""
    names = metadata.classes(tables)
    common = [c for c in tables[0].columns if all(c in other.columns for other in tables)]
    here = {p.as_posix() for p in inside}
    if gone := [name for name in table.rows if name not in here]:
        raise ValueError(f"{table.path}: {gone[0]}: no such image in the folder")
    if lacking := [name for name in sorted(here) if name not in table.rows]:
        raise ValueError(f"{table.path}: has no row for {lacking[0]}; each image needs one")
    if unknown := [name for name in columns if name not in common]:
        numeric = ", ".join(common) or "none"
        raise ValueError(f"columns={unknown[0]}: no such column of numbers; known: {numeric}")
    rows = [table.rows[p.as_posix()] for p in inside]
    label = [0] * len(rows)
    if table.labels is not None:
        label = [names.index(str(table.labels[i])) for i in rows]
    pick = [table.columns.index(name) for name in columns or common]
    cond = {"vector": table.numbers[rows][:, pick]} if pick else {}
    return names, label, cond


def _class_folders(root: Path) -> set[str]:
    """Folders in `root` that hold images, at any depth."""
    images = (p for p in root.glob("*/**/*") if p.suffix.lower() in ENDINGS and p.is_file())
    return {p.relative_to(root).parts[0] for p in images}
