"""Conditions of items as arrays by name: read, checked, missing, and as a request writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.files import read_arrays
from diffjax.specs import Spec

Arrays = dict[str, np.ndarray]
NAMED = ("vector", "tokens", "map")
"""Conditions whose name is their kind."""
PREFIX = "cond_"
"""Before the name of another condition, in files of arrays."""
BY_RANK = {1: "label", 2: "vector", 3: "tokens"}
"""The kind that a condition has by default, by the rank of its array (N, ...); above: map."""


def describe(name: str, value: np.ndarray, classes: int = 0, longest: int = 0) -> Spec:
    """The spec of a condition with values (N, ...) for all items.

    classes: of labels, where more are known than occur. longest: positions of an item, for lengths,
    which are the only unsigned integers. Raises ValueError for values that are none.
    """
    if np.issubdtype(value.dtype, np.unsignedinteger):
        return Spec(name, "length", longest)
    kind = name if name in NAMED else BY_RANK.get(value.ndim, "map")
    if kind == "label":
        if not np.issubdtype(value.dtype, np.integer) or (len(value) and value.min() < -1):
            raise ValueError(f"{name}: {value.dtype} {value.shape}; needs integers >= 0, or -1")
        return Spec(name, kind, classes or 1 + max(int(value.max(initial=0)), 0))
    least = {"vector": 2, "tokens": 3, "map": 2}[kind]
    right = value.ndim == least if kind != "map" else value.ndim >= least
    if not right or not np.issubdtype(value.dtype, np.floating):
        needs = {"vector": "(N, size)", "tokens": "(N, L, size)", "map": "(N, *grid, size)"}[kind]
        raise ValueError(f"{name}: {value.dtype} {value.shape}; needs floats {needs}")
    return Spec(name, kind, value.shape[-1])


def in_arrays(arrays: Mapping[str, np.ndarray], ending: str = "") -> Arrays:
    """The conditions other than the label among named arrays, NaN where a mask says missing.

    `vector`, `tokens`, `map`, and `cond_NAME` for others; `tokens_mask` (N, L) is 0 or False where
    a token is missing. ending: of their names, as `_train`.
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
    """Raise ValueError for a mask that is not (N, L) of values (N, L, ...)."""
    if mask.shape != value.shape[: mask.ndim] or not 2 <= mask.ndim < value.ndim:
        raise ValueError(f"{name}_mask: {mask.shape}; needs {value.shape[:-1]}")


def masked(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values (N, L, ...) with NaN where the mask (N, L) is 0 or False."""
    there = mask.astype(bool).reshape(mask.shape + (1,) * (value.ndim - mask.ndim))
    return np.where(there, value, np.float32(np.nan))


def typed(value: np.ndarray) -> np.ndarray:
    """float32 or int32, as conditions travel; floats stay maps of files where they are so."""
    if np.issubdtype(value.dtype, np.floating):
        return value if value.dtype == np.float32 else value.astype(np.float32)
    return value.astype(np.int32) if np.issubdtype(value.dtype, np.integer) else value


def check(conditions: Mapping[str, np.ndarray], num: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError where conditions are not of `num` items, or a map is on another grid."""
    for name, value in conditions.items():
        spec = describe(name, value, longest=shape[0])
        if len(value) != num:
            raise ValueError(f"{name}: of {len(value)} items; needs {num}, as there are items")
        if spec.kind == "map" and value.shape[1:-1] != shape[:-1]:
            raise ValueError(
                f"{name}: on a grid {value.shape[1:-1]}; the items are on {shape[:-1]}"
            )


def missing(spec: Spec, num: int, shape: tuple[int, ...]) -> np.ndarray:
    """The condition of `num` items of `shape` that do not have it: -1, or NaN; as a length, that
    of the whole item."""
    if spec.kind == "label":
        return np.full(num, -1, np.int32)
    if spec.kind == "length":  # never missing
        return np.full(num, spec.size, np.uint32)
    axes = {"tokens": (1,), "map": shape[:-1]}.get(spec.kind, ())
    return np.full((num, *axes, spec.size), np.nan, np.float32)


def example(specs: Sequence[Spec], num: int, shape: tuple[int, ...]) -> Arrays:
    """Values of the right shapes, 0 but for lengths, for what only looks at shapes."""
    absent = {spec: missing(spec, num, shape) for spec in specs}
    zero = lambda spec, value: value if spec.kind == "length" else 0 * np.nan_to_num(value)
    return {spec.name: zero(spec, value) for spec, value in absent.items()}


def requested(spec: Spec, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """What a request says of a condition as rows (K, ...), which samples take in turn.

    value: a number, nested lists or an array, of one sample or with a first axis for several; None
    for missing, also inside lists; or the path of an .npy or .npz file. Raises ValueError for what
    the condition cannot be.
    """
    place = f"{spec.name}={_short(value)}"
    if isinstance(value, str | Path):
        value = read(Path(value), spec.name)
    if value is None:
        return missing(spec, 1, shape)
    if spec.kind == "label":
        return _labels(spec, value, place)
    if spec.kind == "length":
        return lengths(value, spec.size, place)
    try:
        rows = np.asarray(value, np.float32)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: needs numbers ({error})") from error
    shape_said = rows.shape
    grid = {"vector": (), "tokens": (None,), "map": shape[:-1]}.get(spec.kind, ())
    wanted = (*grid, spec.size)
    if not rows.ndim and spec.kind != "tokens":  # one number for all of it
        rows = np.full(wanted, rows, np.float32)
    rows = rows[None] if rows.ndim == len(wanted) else rows
    same = rows.ndim == len(wanted) + 1 and all(
        n in (None, m) for n, m in zip(wanted, rows.shape[1:], strict=True)
    )
    if not same or not rows.size or np.isinf(rows).any():
        needs = ", ".join("L" if n is None else str(n) for n in wanted)
        raise ValueError(f"{place}: has shape {shape_said}; needs finite ({needs}), or rows of it")
    return rows


def lengths(value: Any, size: int, place: str = "length") -> np.ndarray:
    """One length or several in turn, uint32 (K,). Raises ValueError for what is not in [1, size].

    place: in front of the message.
    """
    rows = np.atleast_1d(np.asarray(value))
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{place}: needs integers, one or several in turn")
    if len(bad := rows[(rows < 1) | (rows > size)]):
        raise ValueError(f"{place}: {bad[0]} is no length; needs 1 to {size}")
    return rows.astype(np.uint32)


def lengths_in_arrays(
    arrays: Mapping[str, np.ndarray], x: np.ndarray, ending: str = ""
) -> np.ndarray | None:
    """The lengths (N,) of items x (N, L, ...) among named arrays, or None where there are none.

    They are in `length` (N,), or in `mask` (N, L), which is 1 up to the end of an item and 0 beyond
    it. Raises ValueError for others, and where both are there and differ.
    """
    length, mask = (arrays.get(f"{name}{ending}") for name in ("length", "mask"))
    if length is not None:
        if length.shape != (len(x),):
            raise ValueError(f"length: {length.shape}; needs ({len(x)},), one of each item")
        length = lengths(length, x.shape[1])
    if mask is None:
        return length
    inside = mask.astype(bool)
    if mask.shape != x.shape[:2]:
        raise ValueError(f"mask: {mask.shape}; needs {x.shape[:2]}")
    counted = lengths(inside.sum(1), x.shape[1], "mask")
    if (inside != (np.arange(x.shape[1]) < counted[:, None])).any():
        raise ValueError("mask: has gaps; needs 1 up to the end of each item, and 0 beyond it")
    if length is not None and (length != counted).any():
        raise ValueError("length, mask: differ; one of them is enough")
    return counted


def _labels(spec: Spec, value: Any, place: str) -> np.ndarray:
    rows = np.atleast_1d(np.array([-1 if v is None else v for v in np.atleast_1d(value)]))
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{place}: needs integers, one or several in turn")
    if bad := [int(k) for k in rows if not -1 <= k < spec.size]:
        raise ValueError(f"{spec.name}={bad[0]}: no such class; known: 0 to {spec.size - 1}")
    return rows.astype(np.int32)


def read(path: Path, name: str, num: int | None = None) -> np.ndarray:
    """The array in a file: the only one of an .npz, or the one of this name.

    num: samples that it is for, of which it has a row for each, or one row. Raises ValueError.
    """
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{name}={path}: {error}") from error
    if name not in arrays and len(arrays) != 1:
        raise ValueError(f"{name}={path}: holds {', '.join(arrays) or 'nothing'}; needs {name}")
    loaded = arrays[name] if name in arrays else next(iter(arrays.values()))
    if num and (not loaded.ndim or len(loaded) not in (1, num)):
        raise ValueError(f"{name}={path}: has shape {loaded.shape}; needs 1 row, or {num}")
    return loaded


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 40 else f"{text[:37]}..."
