"""The source `folder:<path>`: image files of any size, in one folder or one folder per class."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from diffjax.data import metadata
from diffjax.data.decoded import Decoded
from diffjax.data.layout import Layout, layout
from diffjax.data.pictures import Pictures
from diffjax.data.source import check_split, part, tell_untaught
from diffjax.data.walk import Walk, endings, shown, tell, walk

if TYPE_CHECKING:
    from PIL import Image


CAPTIONS = ("text", "caption")
"""Columns of metadata that hold captions, where no setting names others."""


class _Files:
    """Image files, each with a label and captions; `texts` is empty where there are none."""

    def __init__(
        self,
        paths: Sequence[Path],
        label: Sequence[int],
        names: Sequence[str],
        texts: Sequence[list[str]],
    ):
        self._paths, self._label, self.names, self._texts = paths, label, names, texts

    def __len__(self) -> int:
        return len(self._paths)

    def labels(self) -> Sequence[int]:
        return self._label

    def captions(self, index: Sequence[int]) -> list[list[str]]:
        return [[*self._texts[i]] if self._texts else [] for i in index]

    def name(self, i: int) -> str:
        return shown(self._paths[i])

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
    captions: tuple[str, ...] = (),
    pictures: tuple[str, ...] = (),
) -> Decoded:
    """Read the images under `path`, whose folders in alphabetical order are the classes.

    Where `path` holds a folder `train` (or `training`) and one of `test`, `testing`, `val`,
    `valid`, `validation`, in any case, these folders are the splits; otherwise the share `holdout`
    is held out by file name. Hidden files and folders are skipped, links are followed, and every
    format that Pillow reads is accepted. Opening the split `train` prints a line on stderr that
    lists all skipped files.

    A metadata.jsonl or metadata.csv beside the images, with a column `file_name`, replaces the
    folders as classes: its column `label`, a name or a number, is the class, its numeric columns in
    their order are the condition `vector`, and its columns `text` and `caption` hold the captions,
    a text or a list of texts for each image. Columns that are listed in `pictures` hold the path,
    relative to the file, of a picture for each image, such as its edges: a condition of the kind
    map and the name of the column, in [0, 1], with one channel where the first picture is grey.

    size: height and width, for images of several sizes; the shorter side is resized to it and the
    centre is kept. channels: 1 (grey) or 3 (RGB). holdout: the share of held-out images, in [0, 1).
    unreadable: the largest number of unreadable files before the run stops; each is reported by
    name. columns: the numeric columns to use, by default all. captions: the columns of captions, in
    place of those names; the first caption of the first column is preferred. Raises ValueError for
    a folder without images, for folders that could be either splits or classes, and for a picture
    that does not exist.
    """
    check_split(split, "a folder")
    walked, places, tables = _surveyed(path, pictures)
    base, inside = places.part(walked, split)
    if split == "train":
        _tell(walked, places, [*tables.values()], (*(captions or CAPTIONS), *pictures))
    texts, beside = list[list[str]](), dict[str, list[Path]]()
    if base in tables:
        names, label, cond = _described(tables[base], [*tables.values()], inside, columns)
        texts = _captions(tables[base], inside, captions)
        beside = {name: _paths(tables[base], inside, name) for name in pictures}
    elif value := columns or captions or pictures:
        name = "columns" if columns else "captions" if captions else "pictures"
        raise ValueError(f"{name}={value}: {base} holds none of {', '.join(metadata.NAMES)}")
    else:
        names, label, cond = *_class_of_each(base, inside, *places.part(walked, "train")), {}
    whole = bool(places.held_out)  # each split has its own folder, so nothing more is held out
    chosen = part(
        [p.as_posix() for p in inside], "train" if whole else split, 0.0 if whole else holdout
    )
    texts = [texts[i] for i in chosen] if texts else []
    files = _Files([base / inside[i] for i in chosen], [label[i] for i in chosen], names, texts)
    if split == "train":
        tell_untaught(shown(walked.root), [label[i] for i in chosen] if names else [], names)
    cond = {name: value[chosen] for name, value in cond.items()}
    maps = [Pictures(name, [paths[i] for i in chosen]) for name, paths in beside.items()]
    return Decoded(files, size, channels, unreadable, cond, maps)


def _surveyed(
    path: str, pictures: Sequence[str]
) -> tuple[Walk, Layout, dict[Path, metadata.Table]]:
    """Find the images under `path`, their splits, and the tables of the splits by folder.

    Files that the columns `pictures` name are no images of their own.
    """
    walked = _walked(path)
    root, places = walked.root, layout(walked, metadata.locate(walked.root) is not None)
    tables = {p: metadata.read(f) for p in places.folders(root) if (f := metadata.locate(p))}
    aside = {f for t in tables.values() for name in pictures for f in _named(t, name)}
    inside = tuple(p for p in walked.inside if root / p not in aside)
    return replace(walked, inside=inside), places, tables


def _walked(path: str) -> Walk:
    """Find the images under `path`; raise ValueError for no such folder, and for none in it."""
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"path={path!r}: no such folder; the form is name=folder:PATH")
    walked = walk(root, endings())
    if not walked.inside:
        raise ValueError(
            f"{shown(root)}: no images in it; known endings: .png .jpg .webp .tif and all others "
            f"that Pillow reads; left out: {walked.left_out() or 'nothing'}; for sounds and arrays "
            f"use name=array:FILE.npz"
        )
    return walked


def _tell(
    walked: Walk, places: Layout, tables: Sequence[metadata.Table], read: Sequence[str]
) -> None:
    """Print what was skipped, and a hint where the only class folder contains folders."""
    used = [table.path.name for table in tables]
    skipped = ((t, [*t.others, *(name for name in t.texts if name not in read)]) for t in tables)
    texts = {name: table.path.name for table, names in skipped for name in names}
    columns = [
        f"columns of text in {file}: {', '.join(k for k in texts if texts[k] == file)}"
        for file in dict.fromkeys(texts.values())
    ]
    base, inside = places.part(walked, "train")
    number = len(inside) + (len(places.part(walked, "test")[1]) if places.held_out else 0)
    tell(walked.root, number, "image", walked.left_out(used), *places.aside, *columns)
    tops = {p.parts[0] for p in inside}
    if not used and len(tops) == 1 and all(len(p.parts) > 2 for p in inside):
        [top] = map(shown, tops)
        line = f"{shown(base)}: the only class, {top}, holds folders; path={shown(base)}/{top}"
        print(f"{line} would use these folders as classes", file=sys.stderr)


def _class_of_each(
    root: Path,
    inside: Sequence[PurePath],
    trained: Path,
    trained_on: Sequence[PurePath],
) -> tuple[list[str], list[int]]:
    """Return the names of the classes and the label of each image in `root`.

    The classes are the folders in `trained`, the training split. Raises ValueError for a class that
    occurs only in `root`, and for images beside the class folders.
    """
    folders = lambda paths: {p.parts[0] for p in paths if len(p.parts) > 1}
    known = sorted(folders(trained_on))
    names = [shown(name) for name in known]
    if unknown := sorted(folders(inside) - set(known)):
        raise ValueError(
            f"{shown(root / unknown[0])}: no such class in {shown(trained)}; "
            f"known: {', '.join(names) or 'none'}"
        )
    if loose := [p for p in inside if len(p.parts) == 1 and names]:
        raise ValueError(
            f"{shown(root / loose[0])}: lies beside the class folders {', '.join(names[:5])}; "
            f"needs all images in class folders, or no class folders"
        )
    label = {name: i for i, name in enumerate(known)}
    return names, [label[p.parts[0]] if names else 0 for p in inside]


def _described(
    table: metadata.Table,
    tables: Sequence[metadata.Table],
    inside: Sequence[PurePath],
    columns: Sequence[str],
) -> tuple[list[str], list[int], dict[str, np.ndarray]]:
    """Return the class names, labels and conditions of images, as their table states them.

    Classes and columns are those common to the tables of all splits. Raises ValueError where the
    table and the folder do not list the same images, and for an unknown column.
    """
    names = metadata.classes(tables)
    common = [c for c in tables[0].columns if all(c in other.columns for other in tables)]
    here = {p.as_posix() for p in inside}
    if gone := [name for name in table.rows if name not in here]:
        raise ValueError(f"{table.path}: {gone[0]}: no such image in the folder")
    if lacking := [name for name in sorted(here) if name not in table.rows]:
        hint = _hint(table, lacking[0])
        raise ValueError(f"{table.path}: has no row for {lacking[0]}; each image needs one{hint}")
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


def _captions(
    table: metadata.Table, inside: Sequence[PurePath], columns: Sequence[str]
) -> list[list[str]]:
    """Return the captions of images, those of several columns one after another.

    Raises ValueError for a column that does not hold texts.
    """
    if unknown := [name for name in columns if name not in table.texts]:
        known = ", ".join(table.texts) or "none"
        raise ValueError(f"captions={unknown[0]}: no such column of texts; known: {known}")
    names = columns or [name for name in CAPTIONS if name in table.texts]
    rows = [table.rows[path.as_posix()] for path in inside]
    return [[text for name in names for text in table.texts[name][row]] for row in rows]


def _named(table: metadata.Table, column: str) -> list[Path]:
    """Return the files that a column of texts names; raise ValueError for no such column."""
    if column not in table.texts:
        known = ", ".join(table.texts) or "none"
        raise ValueError(f"pictures={column}: {table.path} has no such texts; known: {known}")
    paths = (os.path.normpath(name) for names in table.texts[column] for name in names)
    return [table.path.parent / path for path in paths]


def _hint(table: metadata.Table, name: str) -> str:
    """Return what to do about a file without a row, where a column names it."""
    file = table.path.parent / name
    column = next((column for column in table.texts if file in _named(table, column)), None)
    return f"; the column {column} names it: pictures=('{column}',)" if column else ""


def _paths(table: metadata.Table, inside: Sequence[PurePath], column: str) -> list[Path]:
    """Return the pictures of images that a column names.

    Raises ValueError for a column without one path for each image, and for a missing file.
    """
    paths = []
    for image in inside:
        names = table.texts[column][table.rows[image.as_posix()]]
        if len(names) != 1:
            raise ValueError(f"{table.path}: {image}: {column}: needs one path, has {len(names)}")
        paths.append(table.path.parent / names[0])
        if not paths[-1].is_file():
            raise ValueError(f"{table.path}: {image}: {column}: {shown(paths[-1])}: no such file")
    return paths
