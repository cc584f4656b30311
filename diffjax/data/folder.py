"""`folder:<path>`: image files of any size, in one folder or in one folder per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
) -> Decoded:
    """Images under `path`. The folders in it, in alphabetical order, are the classes.

    Where `path` holds folders `train` and `test` (or `val`, `valid`, `validation`), these are the
    splits; else a share `holdout` is held out by file name. size: height and width, for images of
    several sizes: the shorter side is resized to it, the centre kept. channels: 1 (grey) or 3.
    unreadable: how many files may turn out to be unreadable before the run stops; each is named.
    Raises ValueError for a folder without images.
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
    label = [names.index(p.parts[0]) if names else 0 for p in inside]
    chosen = part([p.as_posix() for p in inside], split, holdout)
    files = _Files([paths[i] for i in chosen], [label[i] for i in chosen], names)
    return Decoded(files, size, channels, unreadable)


def _class_folders(root: Path) -> set[str]:
    """Folders in `root` that hold images, at any depth."""
    images = (p for p in root.glob("*/**/*") if p.suffix.lower() in ENDINGS and p.is_file())
    return {p.relative_to(root).parts[0] for p in images}
