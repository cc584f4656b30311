"""Which tensors of a published network are which parameters of ours, and in what layout.

One function per code base makes a table from the settings of our network:

    {parameter of ours: (layout, *names of theirs)}

where a layout makes our array of theirs (NumPy). `converted` applies such a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from diffjax.arrays import Params
from diffjax.io.trees import flat, nested, some

Layout = Callable[..., np.ndarray]
Table = dict[str, tuple[Any, ...]]


def converted(
    table: Table, tensors: Mapping[str, np.ndarray], unused: Collection[str] = ()
) -> Params:
    """Our nested parameters, float32. ValueError names tensors that are missing, left over though
    not among `unused`, not finite, or of a form that no layout takes."""
    used = {name for _, *names in table.values() for name in names}
    missing, surplus = used - set(tensors), set(tensors) - used - set(unused)
    if missing or surplus:
        raise ValueError(
            f"not the tensors of this network: {some('missing', missing)}; "
            f"{some('not known', surplus)}"
        )
    arrays: dict[str, np.ndarray] = {}
    for path, (layout, *names) in table.items():
        theirs = [np.asarray(tensors[name], np.float32) for name in names]
        if bad := [n for n, a in zip(names, theirs, strict=True) if not np.isfinite(a).all()]:
            raise ValueError(f"{bad[0]}: holds values that are not finite")
        try:
            arrays[path] = np.asarray(layout(*theirs), np.float32, order="C")
        except (ValueError, IndexError, TypeError, ArithmeticError) as error:
            shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(names, theirs, strict=True))
            raise ValueError(f"{path}: cannot be made of {shapes} ({error})") from error
    return nested(arrays)


def shape(tensors: Mapping[str, np.ndarray], name: str, axes: int | None = None) -> tuple[int, ...]:
    """Of the tensor of this name, which tells settings of the network; ValueError where it is
    missing, empty or has not this number of axes."""
    if name not in tensors:
        raise ValueError(f"not the tensors of this network: {some('missing', [name])}")
    sizes = tensors[name].shape
    if 0 in sizes or axes not in (None, len(sizes)):
        raise ValueError(f"not the tensors of this network: {name} has the shape {sizes}")
    return sizes


def fitting(params: Params, wanted: Params) -> Params:
    """The same; ValueError names what has not the shape of the array of that name in `wanted`."""
    ours, theirs = flat(params), flat(wanted)
    shapes = lambda name: f"{name} {np.shape(ours[name])} not {theirs[name].shape}"
    if misfit := [shapes(k) for k in theirs if np.shape(ours[k]) != theirs[k].shape]:
        raise ValueError(f"not the tensors of this network: {some('misfit', misfit)}")
    return params


def below(
    tensors: Mapping[str, np.ndarray], above: str, without: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Those whose names begin with `above`, which is cut off, and do not end with `without`."""
    names = (name for name in tensors if name.startswith(above) and not name.endswith(without))
    return {name.removeprefix(above): tensors[name] for name in names}


def blocks(table: Table, depth: int) -> Table:
    """The same for `depth` blocks, numbered `{i}` in their names, whose arrays are stacked here."""
    return {
        ours: (
            _stacked(layout, len(names)),
            *(name.format(i=i) for i in range(depth) for name in names),
        )
        for ours, (layout, *names) in table.items()
    }


def _stacked(layout: Layout, parts: int) -> Layout:
    return lambda *w: np.stack([layout(*w[i : i + parts]) for i in range(0, len(w), parts)])


# Layouts. Of a convolution (O, I, *K) to (*K, I, O); of a layer (O, I) or (O, I, 1, 1) to (I, O).


def same(w: np.ndarray) -> np.ndarray:
    return w


def kernel(w: np.ndarray) -> np.ndarray:
    return np.moveaxis(w, (0, 1), (-1, -2))


def matrix(w: np.ndarray) -> np.ndarray:
    return w.reshape(w.shape[:2]).T


def interleaved(heads: int, order: str) -> Callable[[np.ndarray], np.ndarray]:
    """Queries, keys and values of all heads as rows (3, heads, channels), from `order` of these."""
    axes = [order.index(axis) for axis in "3hc"]

    def layout(w: np.ndarray) -> np.ndarray:
        sizes = {"3": 3, "h": heads, "c": len(w) // 3 // heads}
        rows = np.arange(len(w)).reshape([sizes[axis] for axis in order]).transpose(axes).ravel()
        return matrix(w[rows]) if w.ndim > 1 else w[rows]

    return layout


def side_by_side(*w: np.ndarray) -> np.ndarray:
    return np.concatenate([a.T if a.ndim > 1 else a for a in w], axis=-1)


def stacked(*w: np.ndarray) -> np.ndarray:
    """Matrices that are (I, O) already, or biases."""
    return np.concatenate(w, axis=-1)


def with_null(labels: np.ndarray) -> np.ndarray:
    """Rows (classes, width) after one for no label, which is zero there."""
    return np.concatenate([np.zeros_like(labels[:1]), labels])


def layer(ours: str, theirs: str, layout: Any = matrix, bias: Any = same) -> Table:
    table: Table = {f"{ours}/kernel": (layout, f"{theirs}.weight")}
    return table | ({f"{ours}/bias": (bias, f"{theirs}.bias")} if bias else {})


def conv(ours: str, theirs: str) -> Table:
    return layer(ours, theirs, kernel)


def norm(ours: str, theirs: str) -> Table:
    return {f"{ours}/scale": (same, f"{theirs}.weight"), f"{ours}/bias": (same, f"{theirs}.bias")}
