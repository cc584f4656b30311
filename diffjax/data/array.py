"""`array:<path>`: images or points in a .npy or .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.source import Memory, check_split, part

IMAGES = ("x", "image", "images", "data", "arr_0")
LABELS = ("y", "label", "labels", "target", "arr_1")


def array(split: str, path: str = "", holdout: float = 0.1) -> Memory:
    """uint8 images (N, H, W, C) or (N, H, W), float32 images in [-1, 1], or points (N, D).

    A .npy file holds x alone. An .npz file holds x, and labels (N,) if there
    are any, as `x` and `y`, `images` and `labels`, or `arr_0` and `arr_1`; where it holds `x_train`
    and `x_test` (`y_train`, `y_test`), these are the splits. Else a share `holdout` is held out.
    Raises ValueError for what is none of these.
    """
    check_split(split, "an array")
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise ValueError(f"path={path!r}: no such file; the form is name=array:PATH.npz")
    try:
        loaded = np.load(file)
        arrays = dict(loaded) if isinstance(loaded, Mapping) else {"x": loaded}
    except Exception as error:
        raise ValueError(f"{file}: cannot be read ({str(error)[:200]})") from error
    if f"x_{split}" in arrays:
        x, label = arrays[f"x_{split}"], arrays.get(f"y_{split}")
        every = [arrays[k] for k in ("y_train", "y_test") if k in arrays and arrays[k].size]
        return _checked(file, x, label, every, slice(None))
    name = next((k for k in IMAGES if k in arrays), None)
    if name is None:
        raise ValueError(
            f"{file}: holds {', '.join(sorted(arrays)) or 'nothing'}; needs one of "
            f"{', '.join(IMAGES)}, or x_train and x_test"
        )
    x, label = arrays[name], next((arrays[k] for k in LABELS if k in arrays), None)
    index = np.array(part([str(i) for i in range(len(x) if x.ndim else 1)], split, holdout))
    return _checked(file, x, label, [] if label is None else [label], index)


def _checked(file: Path, x: Any, label: Any, every: list[Any], index: Any) -> Memory:
    """Images and labels in the form that a source has, or ValueError."""
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[..., None]
    if x.ndim not in (2, 4) or not len(x) or (x.ndim == 4 and x.shape[-1] not in (1, 3)):
        raise ValueError(
            f"{file}: x has shape {x.shape}; needs images (N, H, W, C) with C = 1 or 3, "
            f"(N, H, W) in uint8, or points (N, D)"
        )
    if x.dtype != np.uint8 or x.ndim == 2:
        if not np.issubdtype(x.dtype, np.floating):
            raise ValueError(
                f"{file}: x is {x.dtype}; needs uint8 images, or float32 images or points"
            )
        x = np.asarray(x, np.float32)
        most = float(np.abs(x).max())
        if not np.isfinite(most) or (x.ndim == 4 and most > 1):
            raise ValueError(
                f"{file}: values of x up to {most:g}; needs finite points, or images in [-1, 1]"
            )
    if label is None:
        return Memory(x[index])
    if label.shape != (len(x),) or not np.issubdtype(label.dtype, np.integer) or label.min() < 0:
        raise ValueError(
            f"{file}: labels {label.dtype} {label.shape}; needs integers >= 0, ({len(x)},)"
        )
    classes = 1 + max(int(a.max()) for a in every)
    return Memory(x[index], np.asarray(label[index], np.int32), classes)
