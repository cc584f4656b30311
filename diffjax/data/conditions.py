"""Conditions of items as arrays by name: reading them, checking them, and parsing requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.files import ending, read_arrays, reason
from diffjax.specs import Spec

Arrays = dict[str, np.ndarray]
NAMED = ("vector", "tokens", "map", "pairs")
"""Names of conditions that state their kind."""
PREFIX = "cond_"
"""Prefix of the name of any other condition in files of arrays."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Endings of pictures that stand for a map."""
WEIGHT = "weight"
"""Name of the weight of an item in the loss, a float (N,), which no network receives."""
LENGTHS = "lengths"
"""Unit of a form that counts the training items of each length, from 0."""
STILL = "still"
"""Name of the condition that marks items of stills among videos, and its kind."""
BY_RANK = {1: "label", 2: "vector", 3: "tokens"}
"""Default kind of a condition, by the rank of its array (N, ...); for a higher rank it is map.
Integers (N, L) are words."""


def describe(name: str, value: np.ndarray, longest: int = 0) -> Spec:
    """Return the spec of a condition with values (N, ...) for all items.

    longest: the number of positions of an item, for lengths; unsigned integers are always lengths.
    Labels and words have as many classes as occur. Raises ValueError for values whose type or shape
    suits no condition.
    """
    if np.issubdtype(value.dtype, np.unsignedinteger):
        return Spec(name, "length", longest)
    if name == WEIGHT and value.ndim == 1 and np.issubdtype(value.dtype, np.floating):
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise ValueError("weight: needs finite values >= 0")
        return Spec(name, WEIGHT, 1)
    kind = name if name in NAMED else BY_RANK.get(value.ndim, "map")
    if kind == "vector" != name and np.issubdtype(value.dtype, np.integer):
        kind = "words"
    has = f"{name}: is {value.dtype} of shape {value.shape}"
    if kind in ("label", "words"):
        if not np.issubdtype(value.dtype, np.integer) or (len(value) and value.min() < -1):
            raise ValueError(f"{has}; needs integers >= 0, or -1 for none")
        if name == STILL:
            return Spec(name, STILL, 2)
        return Spec(name, kind, 1 + max(int(value.max(initial=0)), 0))
    least = {"vector": 2, "tokens": 3, "map": 2, "pairs": 4}[kind]
    right = value.ndim == least if kind != "map" else value.ndim >= least
    if not right or not np.issubdtype(value.dtype, np.floating):
        needs = {"vector": "size", "tokens": "L, size", "map": "*grid, size", "pairs": "L, L, size"}
        raise ValueError(f"{has}; needs floats of shape (N, {needs[kind]})")
    return Spec(name, kind, value.shape[-1])


def in_arrays(arrays: Mapping[str, np.ndarray], ending: str = "") -> Arrays:
    """Return the conditions other than the label among named arrays.

    Their names are `vector`, `tokens`, `map` and `pairs`, and `cond_NAME` for any other condition.
    A mask such as `tokens_mask` (N, L) is 0 or False where a token is missing, and the condition
    becomes NaN there. ending: the suffix of the names, such as `_train`. Raises ValueError for a
    mask of another shape.
    """
    conditions: Arrays = {}
    for key, value in arrays.items():
        if ending and not key.endswith(ending):
            continue
        name = key.removesuffix(ending) if ending else key
        if name.endswith("_mask"):
            continue
        if name not in NAMED and not name.startswith(PREFIX):
            continue
        value = typed(value)
        if (mask := arrays.get(f"{name}_mask{ending}")) is not None:
            check_mask(name, value, mask)
            value = masked(value, mask)
        conditions[name.removeprefix(PREFIX)] = value
    return conditions


def check_mask(name: str, value: np.ndarray, mask: np.ndarray) -> None:
    """Raise ValueError unless the mask has the shape (N, L) for values (N, L, ...)."""
    if mask.shape != value.shape[: mask.ndim] or not 2 <= mask.ndim < value.ndim:
        raise ValueError(f"{name}_mask: has the shape {mask.shape}; needs {value.shape[:-1]}")


def masked(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the values (N, L, ...) with NaN where the mask (N, L) is 0 or False."""
    there = mask.astype(bool).reshape(mask.shape + (1,) * (value.ndim - mask.ndim))
    return np.where(there, value, np.float32(np.nan))


def typed(value: np.ndarray) -> np.ndarray:
    """Return floats as float32 and integers as int32; a float32 memory map stays a memory map."""
    if np.issubdtype(value.dtype, np.floating):
        return value if value.dtype == np.float32 else value.astype(np.float32)
    return value.astype(np.int32) if np.issubdtype(value.dtype, np.integer) else value


def check(conditions: Mapping[str, np.ndarray], num: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError for a condition not of `num` items, or not of the grid of the items.

    shape: the shape of an item.
    """
    for name, value in conditions.items():
        spec = describe(name, value, longest=shape[0])
        if len(value) != num:
            raise ValueError(f"{name}: has {len(value)} rows, and there are {num} items")
        if spec.kind == "map" and value.shape[1:-1] != shape[:-1]:
            raise ValueError(
                f"{name}: has the grid {value.shape[1:-1]}, and the items have {shape[:-1]}"
            )
        if spec.kind == "pairs" and value.shape[1:-1] != shape[:1] * 2:
            raise ValueError(
                f"{name}: has pairs {value.shape[1:-1]}, and the items have {shape[0]} points"
            )


def missing(spec: Spec, num: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values that stand for a missing condition in `num` items of `shape`.

    They are -1 for labels and words, and NaN for floats. A length is never missing: an item without
    one has the full length.
    """
    if spec.kind in ("label", STILL):
        return np.full(num, -1, np.int32)
    if spec.kind == "words":
        return np.full((num, 1), -1, np.int32)
    if spec.kind == "length":  # never missing
        return np.full(num, spec.size, np.uint32)
    axes = {"tokens": (1,), "map": shape[:-1], "pairs": shape[:1] * 2}.get(spec.kind, ())
    return np.full((num, *axes, spec.size), np.nan, np.float32)


def example(specs: Sequence[Spec], num: int, shape: tuple[int, ...]) -> Arrays:
    """Return conditions of the right shapes, for initialisation and shape inference.

    All values are 0, except for lengths, which are full.
    """
    absent = {spec: missing(spec, num, shape) for spec in specs}
    zero = lambda spec, value: value if spec.kind == "length" else 0 * np.nan_to_num(value)
    return {spec.name: zero(spec, value) for spec, value in absent.items()}


def requested(spec: Spec, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the requested values of a condition as rows (K, ...), which samples use in turn.

    value: a number, nested lists or an array, for one sample or with a first axis for several; None
    for a missing condition, also inside lists; or the path of an .npy or .npz file. shape: the
    shape of an item. Raises ValueError for values that the condition cannot have.
    """
    place = f"{spec.name}={_short(value)}"
    if isinstance(value, str | Path):
        value = read(Path(value), spec.name)
    if value is None:
        return missing(spec, 1, shape)
    if spec.kind in ("label", STILL):
        return _labels(spec, value, place)
    if spec.kind == "words":
        return _words(spec, value, place)
    if spec.kind == "length":
        return lengths(value, spec.size, place)
    try:
        rows = np.asarray(value, np.float32)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: needs numbers ({error})") from error
    shape_said = rows.shape
    if spec.kind == "map":
        rows = on_grid(rows, spec.size, shape[:-1])
    grids = {"tokens": (None,), "map": shape[:-1], "pairs": shape[:1] * 2}
    grid = grids.get(spec.kind, ())
    wanted = (*grid, spec.size)
    if not rows.ndim and spec.kind != "tokens":  # one number fills the whole condition
        rows = np.full(wanted, rows, np.float32)
    rows = rows[None] if rows.ndim == len(wanted) else rows
    same = rows.ndim == len(wanted) + 1 and all(
        n in (None, m) for n, m in zip(wanted, rows.shape[1:], strict=True)
    )
    if not same or not rows.size or np.isinf(rows).any():
        needs = ", ".join("L" if n is None else str(n) for n in wanted)
        has = f"{place}: has the shape {shape_said}"
        raise ValueError(f"{has}; needs finite values of shape ({needs}), or several such rows")
    return rows


def lengths(value: Any, size: int, place: str = "length") -> np.ndarray:
    """Return one length or several as uint32 (K,).

    size: the largest length. place: the prefix of the message. Raises ValueError for anything but
    integers in [1, size].
    """
    rows = np.atleast_1d(np.asarray(value))
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{place}: needs one integer, or several in turn")
    if len(bad := rows[(rows < 1) | (rows > size)]):
        raise ValueError(f"{place}: {bad[0]} is not a length; needs 1 to {size}")
    return rows.astype(np.uint32)


def likely(counts: Sequence[int], num: int) -> np.ndarray:
    """Return `num` lengths as uint32 in a random order, each about as often as it was counted.

    counts: of the lengths 0, 1, ... The lengths are the quantiles (k + 1/2) / num of the counts.

    >>> sorted(likely([0, 3, 0, 1], 8).tolist())
    [1, 1, 1, 1, 1, 1, 3, 3]
    """
    places = (np.arange(num) + 0.5) / num * np.sum(counts)
    drawn = np.searchsorted(np.cumsum(counts), places, side="right")
    return np.random.Generator(np.random.Philox(key=0)).permutation(drawn).astype(np.uint32)


def lengths_in_arrays(
    arrays: Mapping[str, np.ndarray], x: np.ndarray, ending: str = ""
) -> np.ndarray | None:
    """Return the lengths (N,) of items x (N, L, ...) from named arrays, or None without any.

    The arrays are `length` (N,), or `mask` (N, L), which is 1 up to the end of an item and 0 beyond
    it. ending: the suffix of their names, such as `_train`. Raises ValueError for arrays of another
    form, and where both arrays exist and differ.
    """
    length, mask = (arrays.get(f"{name}{ending}") for name in ("length", "mask"))
    if length is not None:
        if length.shape != (len(x),):
            raise ValueError(f"length: has the shape {length.shape}; needs ({len(x)},)")
        length = lengths(length, x.shape[1])
    if mask is None:
        return length
    inside = mask.astype(bool)
    if mask.shape != x.shape[:2]:
        raise ValueError(f"mask: has the shape {mask.shape}; needs {x.shape[:2]}")
    counted = lengths(inside.sum(1), x.shape[1], "mask")
    if (inside != (np.arange(x.shape[1]) < counted[:, None])).any():
        raise ValueError("mask: has gaps; needs 1 up to the end of each item, and 0 beyond it")
    if length is not None and (length != counted).any():
        raise ValueError("length, mask: disagree; keep only one of them")
    return counted


def _labels(spec: Spec, value: Any, place: str) -> np.ndarray:
    rows = np.atleast_1d(np.array([-1 if v is None else v for v in np.atleast_1d(value)]))
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{place}: needs one integer, or several in turn")
    if bad := [int(k) for k in rows if not -1 <= k < spec.size]:
        raise ValueError(f"{spec.name}={bad[0]}: no such class; known: 0 to {spec.size - 1}")
    return rows.astype(np.int32)


def _words(spec: Spec, value: Any, place: str) -> np.ndarray:
    rows = np.atleast_1d(np.asarray(value))
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{place}: needs integers (L,), or several such rows")
    if len(bad := rows[(rows < -1) | (rows >= spec.size)]):
        raise ValueError(f"{spec.name}={bad[0]}: no such word; known: 0 to {spec.size - 1}")
    return rows.astype(np.int32)


def read(
    path: Path,
    name: str,
    num: int | None = None,
    items: Callable[[Path], np.ndarray] | None = None,
) -> np.ndarray:
    """Read the array of this name from a .npy or .npz file, or the only array in it, or a picture.

    num: the number of samples, if the array must have one row or a row for each. items: reads a
    file of items in the format of their kind, in place of an array. Raises ValueError for a file
    that cannot be read, lacks the array, or has another number of rows.
    """
    try:
        if items is None and ending(path) in PICTURES:
            return picture(path)
        arrays = read_arrays(path) if items is None else {name: items(path)}
    except ValueError as error:
        raise ValueError(f"{name}={path}: {error}") from error
    except OSError as error:
        raise ValueError(f"{name}={path}: cannot be read ({reason(error)})") from error
    if name not in arrays and len(arrays) != 1:
        raise ValueError(f"{name}={path}: holds {', '.join(arrays) or 'nothing'}; needs {name}")
    loaded = arrays[name] if name in arrays else next(iter(arrays.values()))
    if num and (not loaded.ndim or len(loaded) not in (1, num)):
        raise ValueError(f"{name}={path}: has shape {loaded.shape}; needs 1 row, or {num} rows")
    return loaded


def picture(path: Path) -> np.ndarray:
    """Read a picture as float32 (H, W, 1 or 3) in [0, 1].

    Raises ValueError for a file that is no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "I", "I;16", "LA")
            values = np.asarray(image.convert("L" if grey else "RGB"), np.float32)
    except OSError as error:
        raise ValueError(f"cannot be read ({reason(error)})") from error
    return values.reshape(*values.shape[:2], -1) / 255


def on_grid(rows: np.ndarray, size: int, grid: tuple[int, ...]) -> np.ndarray:
    """Return maps (..., H, W, c) with channels of the number `size` on the grid, if they fit.

    Squares of pixels become channels where the sides are a multiple of those of the grid, in the
    order (rows, columns, channels); colours become grey, or grey three equal channels, where their
    number does not fit. Others are returned unchanged.

    >>> on_grid(np.arange(4.0).reshape(2, 2, 1), size=4, grid=(1, 1)).tolist()
    [[[0.0, 1.0, 2.0, 3.0]]]
    """
    if rows.ndim not in (3, 4) or len(grid) != 2:
        return rows
    *front, h, w, c = rows.shape
    side = h // grid[0]
    if side < 1 or (h, w) != (side * grid[0], side * grid[1]) or size % side**2:
        return rows
    wanted = size // side**2
    if (c, wanted) == (3, 1):
        rows = rows @ np.array([[0.299], [0.587], [0.114]], np.float32)
    elif (c, wanted) == (1, 3):
        rows = rows.repeat(3, -1)
    elif c != wanted:
        return rows
    split = rows.reshape(*front, grid[0], side, grid[1], side, wanted)
    return split.swapaxes(-4, -3).reshape(*front, *grid, size)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 40 else f"{text[:37]}..."
