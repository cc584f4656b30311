"""Samples that another program made, in the files that other programs score.

An .npz file holds uint8 `arr_0` (N, H, W, C), and labels `arr_1` (N,) where there are any, as the
evaluator of guided-diffusion reads it. A folder holds image files, as pytorch-fid reads it.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from diffjax.data import is_image
from diffjax.data.decoded import Unreadable, decode
from diffjax.data.folder import ENDINGS
from diffjax.evaluation.samples import Samples
from diffjax.progress import Progress


def read(path: Path, shape: tuple[int, ...], classes: int = 0, most: int | None = None) -> Samples:
    """The first `most` samples in a file or a folder.

    shape: of a real item. classes: of the real items, 0 where they have none. Raises ValueError for
    samples of another form; what is an image is uint8, from 0 to 255.
    """
    if path.is_dir():
        return Samples(_images(path, shape, most), None)
    x, label = _archive(path)
    wanted = "uint8" if is_image(shape) else "float32"
    if x.shape[1:] != tuple(shape) or x.dtype != wanted:
        needs = ", ".join(map(str, ("N", *shape)))
        raise ValueError(f"arr_0 is {x.dtype} {x.shape}; needs {wanted} ({needs}), as the data")
    if label is not None:
        _check_labels(label, len(x), classes)
    x, label = x[:most], None if label is None else label[:most].astype(np.int32)
    if x.dtype == np.uint8 and len(x) and x.max() <= 1:
        raise ValueError(f"arr_0 holds values up to {x.max()}; needs grey levels, 0 to 255")
    if x.dtype != np.uint8 and not np.isfinite(x).all():
        raise ValueError("arr_0 holds values that are not finite")
    return Samples(x, label)


def _archive(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise ValueError("no such .npz file or folder of images")
    try:
        with np.load(path) as file:
            if "arr_0" not in file.files:
                raise ValueError(f"holds {', '.join(file.files) or 'nothing'}; needs arr_0")
            return file["arr_0"], file["arr_1"] if "arr_1" in file.files else None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot be read ({str(error)[:100]})") from error


def _check_labels(label: np.ndarray, count: int, classes: int) -> None:
    whole = label.shape == (count,) and np.issubdtype(label.dtype, np.integer)
    if not whole or not ((label >= 0) & (label < classes)).all():
        known = f"classes from 0 to {classes - 1}" if classes else "none, for the data have none"
        raise ValueError(f"arr_1 is {label.dtype} {label.shape}; needs ({count},), {known}")


def _images(folder: Path, shape: tuple[int, ...], most: int | None) -> np.ndarray:
    """The images under a folder in the order of their names, grey or RGB as the data are."""
    from PIL import Image

    if not is_image(shape):
        raise ValueError(f"a folder of images, and the data are {shape}; needs an .npz file")
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in ENDINGS][:most]
    if not paths:
        raise ValueError(f"no images in it; known endings: {' '.join(ENDINGS)}")
    x = np.empty((len(paths), *shape), np.uint8)
    with Progress("read samples", len(paths), "image") as progress:
        for k, path in enumerate(paths):
            try:
                image, _ = decode(lambda path=path: Image.open(path), 0, shape[-1])
            except Unreadable as error:
                raise ValueError(f"{path.name}: unreadable ({error})") from error
            if image.shape != x.shape[1:]:
                raise ValueError(f"{path.name} is {image.shape}; needs {shape}, as the data")
            x[k] = image
            progress.advance()
    return x
