"""`latents:<path>`: what an autoencoder made of images, read from memory maps of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffjax.data.source import check_split, part


@dataclass(frozen=True)
class Latents:
    """Rows `index` of x (N, H, W, C), times `scale`, as float32; label (N,) in [0, classes)."""

    x: np.ndarray
    index: np.ndarray
    scale: float
    label: np.ndarray | None = None
    classes: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        rows = self.index[index]
        items = {"x": np.asarray(self.x[rows], np.float32) * np.float32(self.scale)}
        return items if self.label is None else items | {"label": self.label[rows]}

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label[self.index]


def latents(split: str, path: str = "", scale: float = 1.0, holdout: float = 0.1) -> Latents:
    """`latents.npy` (N, H, W, C), float16 or float32, and `labels.npy` (N,) if there are labels.

    Where folders `train` and `test` in `path` hold these files, they are the splits; else a share
    `holdout` is held out. scale: factor that brings values to a deviation of about 1 (0.18215 for
    the autoencoder of arXiv:2112.10752). Raises ValueError for files that are not so.
    """
    check_split(split, "latents")
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"path={path!r}: no such folder; the form is name=latents:PATH")
    apart = (root / "train" / "latents.npy").is_file() and (root / "test" / "latents.npy").is_file()
    every = [root / s for s in ("train", "test")] if apart else [root]
    here = root / split if apart else root
    x = _opened(here / "latents.npy")
    if x.ndim != 4 or not len(x) or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"{here / 'latents.npy'}: {x.dtype} {x.shape}; needs floats (N, H, W, C), N > 0"
        )
    if not 0 < abs(scale) < np.inf:
        raise ValueError(f"scale={scale}: needs a factor that is not 0")
    index = np.arange(len(x))
    if not apart:
        index = np.array(part([str(i) for i in index], split, holdout))
    if not (here / "labels.npy").is_file():
        return Latents(x, index, scale)
    label = _opened(here / "labels.npy")
    if label.shape != (len(x),) or not np.issubdtype(label.dtype, np.integer) or label.min() < 0:
        raise ValueError(
            f"{here / 'labels.npy'}: {label.dtype} {label.shape}; needs integers >= 0, ({len(x)},)"
        )
    classes = 1 + max(int(_opened(folder / "labels.npy").max()) for folder in every)
    return Latents(x, index, scale, np.asarray(label, np.int32), classes)


def _opened(file: Path) -> np.ndarray:
    """A memory map, or ValueError."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        return np.load(file, mmap_mode="r")
    except Exception as error:
        raise ValueError(f"{file}: cannot be read ({str(error)[:200]})") from error
