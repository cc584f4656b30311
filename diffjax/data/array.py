"""The source `array:<path>`: items of any kind in a .npy or .npz file, with their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data import conditions, kinds
from diffjax.data.source import SPLITS, Memory, NoSplit, check_split, part, tell_untaught
from diffjax.files import read_arrays

ITEMS = ("x", "image", "images", "data", "arr_0")
LABELS = ("y", "label", "labels", "target", "arr_1")


def array(
    split: str,
    path: str = "",
    holdout: float = 0.1,
    kind: str = "",
    rate: float = 0.0,
    gaps: bool = False,
) -> Memory:
    """Read items (N, ...) of any kind, such as uint8 images (N, H, W, C) or points (N, 2).

    A .npy file holds x alone. An .npz file holds x, and labels (N,) or (N, 1) if there are any, as
    `x` and `y`, `images` and `labels`, or `arr_0` and `arr_1`. Other conditions are floats `vector`
    (N, size), `tokens` (N, L, size), `map` (N, *grid, size) or `cond_NAME`, missing where NaN or
    where `tokens_mask` (N, L) is 0. Sequences and sounds of different lengths are padded to one L
    and have `length` (N,), or `mask` (N, L), 1 up to the end of each; the padding is ignored. A
    file with `x_train` and `x_test` (`y_train`, ...) holds both splits; otherwise the share
    `holdout` is held out. kind: an entry of `data.kinds`; by default that of `kinds.default`. rate:
    samples or frames per second of sounds and videos, 0 if unknown. gaps: allow NaN in x where a
    value is missing, for `data.hidden` to impute. Raises ValueError for a file of any other form.
    """
    check_split(split, "an array")
    file, arrays = _opened(path)
    units = (("rate", rate),) if rate else ()
    try:
        if f"x_{split}" in arrays:
            x, label = arrays[f"x_{split}"], arrays.get(f"y_{split}")
            known = [arrays[f"y_{s}"] for s in SPLITS if f"y_{s}" in arrays]
            cond, index = conditions.in_arrays(arrays, f"_{split}"), slice(None)
        else:
            name = next((k for k in ITEMS if k in arrays), None)
            if name is None:
                raise ValueError(
                    f"holds {', '.join(sorted(arrays)) or 'nothing'}; needs one of "
                    f"{', '.join(ITEMS)}, or x_train and x_test"
                )
            x, label = arrays[name], next((arrays[k] for k in LABELS if k in arrays), None)
            known, cond = [] if label is None else [label], conditions.in_arrays(arrays)
            index = np.array(part([str(i) for i in range(len(x) if x.ndim else 1)], split, holdout))
        ending = f"_{split}" if f"x_{split}" in arrays else ""
        x, kind, length = padded(x, kind, arrays, ending)
        x, kind = items(x, kind, gaps)
        if length is not None:
            if "length" in cond:
                raise ValueError("cond_length: the items have lengths of their own; rename it")
            cond["length"] = length
        conditions.check(cond, len(x), x.shape[1:])
        label, classes = labels(label, len(x), known)
    except NoSplit:
        raise
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    cond = {name: value[index] for name, value in cond.items()}
    label, x = None if label is None else label[index], x[index]
    if split == "train" and label is not None:
        tell_untaught(str(file), label, [*map(str, range(classes))])
    if length is not None:
        x = np.where(np.arange(x.shape[1])[:, None] < cond["length"][:, None, None], x, np.nan)
    return Memory(x, label, classes, kind, cond, units, gaps=gaps)


def _opened(path: str) -> tuple[Path, Mapping[str, np.ndarray]]:
    """Return the path of a file and its arrays; raise ValueError where it is no such file."""
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise ValueError(f"path={path!r}: no such file; the form is name=array:PATH.npz")
    try:
        return file, read_arrays(file)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def padded(
    x: np.ndarray, kind: str, arrays: Mapping[str, np.ndarray], ending: str
) -> tuple[np.ndarray, str, np.ndarray | None]:
    """Return items as floats with 0 in their padding, their kind, and their lengths (N,).

    The lengths are None, and the items unchanged, where the file states no lengths. ending: the
    suffix of the names of this split's arrays. Raises ValueError for lengths of a kind whose items
    have none.
    """
    if x.ndim < 2 or not len(x):
        return x, kind, None
    grey = x.ndim == 3 and x.dtype == np.uint8  # images without an axis for their channel
    name = kind or ("image" if grey else kinds.default(x.shape[1:], str(x.dtype)))
    length = lengths(name, arrays, x, ending)
    if length is None:
        return x, kind, None
    floats = np.asarray(kinds.lookup(name).normalise(x))
    inside = np.arange(x.shape[1])[:, None] < length[:, None, None]
    return np.where(inside, floats, np.zeros((), floats.dtype)), name, length


def lengths(
    kind: str, arrays: Mapping[str, np.ndarray], x: np.ndarray, ending: str = ""
) -> np.ndarray | None:
    """Return the lengths (N,) of items x (N, L, ...), or None where no array states them.

    Raises ValueError for lengths outside [1, L], and for lengths of a kind whose items have none.
    """
    entry = kinds.lookup(kind)
    if entry.lengths and x.ndim == 3:
        return conditions.lengths_in_arrays(arrays, x, ending)
    shapes = {"length": x.shape[:1], "mask": x.shape[:2]}
    named = {k: arrays.get(f"{k}{ending}") for k in shapes}
    if said := [k for k, a in named.items() if a is not None and a.shape == shapes[k]]:
        allowed = ", ".join(k for k, other in kinds.KINDS.items() if other.lengths)
        raise ValueError(
            f"{said[0]}: {entry.noun}s have a fixed size; kinds with lengths: {allowed}; an array "
            f"with another meaning needs another name"
        )
    return None


def items(x: np.ndarray, kind: str, gaps: bool = False) -> tuple[np.ndarray, str]:
    """Return items in their stored type, uint8, int16 or float32, and the name of their kind.

    gaps: whether values may be missing. Raises ValueError for shapes, types or values that the kind
    does not allow.
    """
    if x.ndim == 3 and x.dtype == np.uint8 and kind in ("", "image"):
        x = x[..., None]
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x has shape {x.shape}; needs (N, ...), N > 0, e.g. images (N, H, W, C)")
    if np.issubdtype(x.dtype, np.floating):
        x = np.asarray(x, np.float32)
    name = kind or kinds.default(x.shape[1:], str(x.dtype))
    entry = kinds.lookup(name)
    try:
        entry.check(x.shape[1:], str(x.dtype))
        entry.check_values(np.nan_to_num(x, posinf=np.inf, neginf=-np.inf) if gaps else x)
    except ValueError as error:
        raise ValueError(f"x is {x.dtype} and has shape {x.shape}: {error}") from error
    return x, name


def labels(label: Any, num: int, known: list[Any]) -> tuple[np.ndarray | None, int]:
    """Return the labels of `num` items as int32, and the number of classes.

    known: the label arrays of all splits, over which the classes are counted. Raises ValueError
    for labels that are not `num` integers in [0, 2^31).
    """
    if label is None:
        return None, 0
    flat = column(label)
    if flat.shape != (num,) or not np.issubdtype(flat.dtype, np.integer) or flat.min() < 0:
        has = f"labels are {label.dtype} of shape {label.shape}"
        raise ValueError(f"{has}; needs integers >= 0 of shape ({num},)")
    if (top := int(flat.max())) > np.iinfo(np.int32).max:
        raise ValueError(f"the largest label is {top}; needs labels below 2**31")
    classes = 1 + max(int(a.max()) for a in known if a.size)
    return np.asarray(flat, np.int32), classes


def column(label: np.ndarray) -> np.ndarray:
    """Return labels as (N,), whether they are stored as (N,) or as a column (N, 1)."""
    return label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label
