"""Samples that another program made, in the files that other programs score.

An .npz file holds `arr_0` (N, ...), uint8 (N, H, W, C) of images, and labels `arr_1` (N,) where
there are any, as the evaluator of guided-diffusion reads it. A folder holds a file per sample:
images, as pytorch-fid reads them, or what the kind of data is written to.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from diffjax.data.decoded import decode
from diffjax.data.folder import ENDINGS
from diffjax.data.form import Form
from diffjax.evaluation.samples import Samples
from diffjax.progress import Progress


def read(path: Path, form: Form, most: int | None = None) -> Samples:
    """The first `most` samples in a file or a folder.

    form: of the real items. Raises ValueError for samples of another one; images are uint8, from 0
    to 255.
    """
    if path.is_dir():
        return Samples(_folder(path, form, most), None)
    x, label = _archive(path)
    wanted = str(form.denormalise(np.zeros((0, *form.shape), np.float32)).dtype)
    if x.shape[1:] != form.shape or x.dtype != wanted:
        needs = ", ".join(map(str, ("N", *form.shape)))
        raise ValueError(f"arr_0 is {x.dtype} {x.shape}; needs {wanted} ({needs}), as the data")
    if label is not None:
        _check_labels(label, len(x), form.classes)
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


def _folder(folder: Path, form: Form, most: int | None) -> np.ndarray:
    """The items in the files under a folder in the order of their names."""
    files = form.items.folder()
    if files is None:
        raise ValueError(f"a folder, and the data are {form.kind} {form.shape}; needs an .npz file")
    image = form.kind == "image"  # in any of the forms that other programs write
    endings = ENDINGS if image else (files.ending,)
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in endings][:most]
    if not paths:
        raise ValueError(f"no {form.items.noun}s in it; known endings: {' '.join(endings)}")
    items = []
    with Progress("read samples", len(paths), form.items.noun) as progress:
        for path in paths:
            try:
                item = (
                    _image(path, form.shape[-1])
                    if image
                    else files.read(path, form.shape, dict(form.units))
                )
            except (OSError, EOFError, ValueError) as error:
                raise ValueError(f"{path.name}: unreadable ({error})") from error
            if item.shape != form.shape:
                raise ValueError(f"{path.name} is {item.shape}; needs {form.shape}, as the data")
            items.append(item)
            progress.advance()
    x = np.stack(items)  # integers of a file where the data are floats, as of sound
    return x if form.kind == "image" or x.dtype == form.dtype else form.items.normalise(x)


def _image(path: Path, channels: int) -> np.ndarray:
    """The pixels of an image, grey or RGB as the data are."""
    from PIL import Image

    return decode(lambda: Image.open(path), 0, channels)[0]
