"""Readers for samples of other programs, in the formats that other evaluators use.

An .npz file has `arr_0` (N, ...), uint8 (N, H, W, C) for images, and optional labels `arr_1` (N,),
as for the evaluator of guided-diffusion; an .npy file has the samples alone. A folder has one file
per sample: images, as for pytorch-fid, or the file type of the kind of data. A file of all samples
in a format of the kind, such as .sdf of molecules, is read as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffjax.data.array import column
from diffjax.data.form import Form
from diffjax.data.images import decode
from diffjax.data.walk import endings, shown, tell, walk
from diffjax.evaluation.samples import Samples
from diffjax.files import read_arrays, reason
from diffjax.progress import Progress


def read(path: Path, form: Form, most: int | None = None) -> Samples:
    """Read the first `most` samples from a file or a folder.

    form: the form of the real items; raises ValueError for samples of another form. Images are
    uint8, from 0 to 255.
    """
    if path.is_dir():
        return Samples(items(path, form, most), None)
    if (read_items := form.reader(path)) and path.is_file():
        try:
            return Samples(read_items(path)[:most], None)
        except (OSError, ValueError, IndexError) as error:
            raise ValueError(f"unreadable ({reason(error)})") from error
    x, label = _arrays(path)
    if x.shape[1:] == form.shape[:-1] and form.kind == "image" and form.shape[-1] == 1:
        x = x[..., None]  # grey without an axis of channels
    wanted = str(form.denormalise(np.zeros((0, *form.shape), np.float32)).dtype)
    if x.shape[1:] != form.shape or x.dtype != wanted:
        needs = ", ".join(map(str, ("N", *form.shape)))
        has = f"arr_0 is {x.dtype} of shape {x.shape}"
        raise ValueError(f"{has}; needs {wanted} of shape ({needs}), as in the data")
    if label is not None:
        label = column(label)
        _check_labels(label, len(x), form.classes)
    x, label = x[:most], None if label is None else label[:most].astype(np.int32)
    if x.dtype == np.uint8 and len(x) and x.max() <= 1:
        raise ValueError(f"arr_0 holds values up to {x.max()}; needs grey levels, 0 to 255")
    if x.dtype != np.uint8 and not (form.ends or np.isfinite(x).all()):
        raise ValueError("arr_0 holds values that are not finite")
    return Samples(x, label)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read samples, and labels or None, from an .npz or .npy file."""
    if not path.is_file():
        raise ValueError("no such .npz file, .npy file or folder of images")
    arrays = read_arrays(path)
    if [*arrays] == ["x"]:
        return arrays["x"], None
    if "arr_0" not in arrays:
        raise ValueError(f"holds {', '.join(arrays) or 'nothing'}; needs arr_0")
    return arrays["arr_0"], arrays.get("arr_1")


def _check_labels(label: np.ndarray, count: int, classes: int) -> None:
    whole = label.shape == (count,) and np.issubdtype(label.dtype, np.integer)
    if not whole or not ((label >= 0) & (label < classes)).all():
        known = (
            f"({count},), classes 0 to {classes - 1}" if classes else "no labels, as in the data"
        )
        raise ValueError(f"arr_1 is {label.dtype} of shape {label.shape}; needs {known}")


def items(place: Path, form: Form, most: int | None = None, *, fit: bool = False) -> np.ndarray:
    """Read the items of a file, or of the files under a folder in the order of names, (N, *shape).

    fit: whether images of another size are resized and cropped to the size of the form, if that is
    square, as `data.images.pixels` does. Raises ValueError for items of another form.
    """
    files = form.items.folder()
    if files is None or files.read is None:
        raise ValueError(f"is a folder; {form.kind} items {form.shape} are read from an .npz file")
    image, noun = form.kind == "image", form.items.noun  # in any form that other programs write
    folder, paths = (
        (place, _inside(place, form, most)) if place.is_dir() else (place.parent, [place])
    )
    size = form.shape[0] if fit and image and form.shape[0] == form.shape[1] else 0
    read_items = []
    with Progress("read samples", len(paths), noun) as progress:
        for path in paths:
            name = shown(path.relative_to(folder))
            try:
                if image:
                    item = _image(path, form.shape[-1], size)
                else:
                    item = files.read(path, form.shape, dict(form.units))
            except Exception as error:  # a damaged file of any format
                raise ValueError(f"{name}: unreadable ({reason(error)})") from error
            item = filled(item, form)
            if item.shape != form.shape:
                raise ValueError(
                    f"{name} has the shape {item.shape}; needs {form.shape}, as in the data"
                )
            read_items.append(item)
            progress.advance()
    x = np.stack(read_items)  # integers of a file where the data are floats, as of sound
    return x if image or x.dtype == form.dtype else form.items.normalise(x)


def filled(item: np.ndarray, form: Form) -> np.ndarray:
    """Return an item with NaN up to the length of the form, where items have lengths.

    >>> from diffjax.specs import Spec
    >>> filled(np.ones((1, 1)), Form("sequence", (2, 1), (Spec("length", "length", 2),))).tolist()
    [[1.0], [nan]]
    """
    if not form.ends or item.ndim != len(form.shape) or len(item) >= form.shape[0]:
        return item
    room = ((0, form.shape[0] - len(item)), *((0, 0) for _ in form.shape[1:]))
    return np.pad(item, room, constant_values=np.nan)


def _inside(folder: Path, form: Form, most: int | None) -> list[Path]:
    """Return the first `most` files of items under a folder; raise ValueError for none."""
    files, image, noun = form.items.folder(), form.kind == "image", form.items.noun
    assert files is not None
    walked = walk(folder, endings() if image else (files.ending,))
    if not walked.inside:
        known = "those that Pillow reads, such as .png" if image else files.ending
        left_out = walked.left_out() or "nothing"
        raise ValueError(f"no {noun}s in it; known endings: {known}; left out: {left_out}")
    tell(folder, len(walked.inside), noun, walked.left_out())
    return [folder / p for p in walked.inside[:most]]


def _image(path: Path, channels: int, size: int) -> np.ndarray:
    """Read the pixels of an image, grey or RGB as the data are; size: see `pixels`."""
    from PIL import Image

    return decode(lambda: Image.open(path), size, channels)[0]
