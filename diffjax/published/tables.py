"""Tables that map the tensors of a published network to our parameters, and their layouts.

One function per code base builds a table from the settings of our network:

    {parameter of ours: (layout, *names of theirs)}

where a layout computes our array from theirs (NumPy). `converted` applies such a table.
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
    """Return our nested parameters, float32.

    Raises ValueError that names the tensors which are missing, unexpected and not in `unused`, not
    finite, or of a shape that their layout does not support.
    """
    used = {name for _, *names in table.values() for name in names}
    missing, surplus = used - set(tensors), set(tensors) - used - set(unused)
    if missing or surplus:
        raise ValueError(
            f"not the tensors of this network: {some('missing', missing)}; "
            f"{some('unexpected', surplus)}"
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
            raise ValueError(f"{path}: does not follow from {shapes} ({error})") from error
    return nested(arrays)


def shape(tensors: Mapping[str, np.ndarray], name: str, axes: int | None = None) -> tuple[int, ...]:
    """Return the shape of the tensor of this name, from which settings of the network follow.

    Raises ValueError where the tensor is missing or empty, or has another number of axes.
    """
    if name not in tensors:
        raise ValueError(f"not the tensors of this network: {some('missing', [name])}")
    sizes = tensors[name].shape
    if 0 in sizes or axes not in (None, len(sizes)):
        raise ValueError(f"not the tensors of this network: {name} has the shape {sizes}")
    return sizes


def fitting(params: Params, wanted: Params) -> Params:
    """Return `params` if each array has the shape of the array of that name in `wanted`.

    Raises ValueError that names the arrays which do not fit.
    """
    ours, theirs = flat(params), flat(wanted)
    shapes = lambda name: f"{name} {np.shape(ours[name])}, needs {theirs[name].shape}"
    if misfit := [shapes(k) for k in theirs if np.shape(ours[k]) != theirs[k].shape]:
        raise ValueError(f"not the tensors of this network: {some('of other shapes', misfit)}")
    return params


def below(
    tensors: Mapping[str, np.ndarray], above: str, without: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Return the tensors whose names begin with `above` and do not end with `without`.

    The prefix `above` is removed from the names.
    """
    names = (name for name in tensors if name.startswith(above) and not name.endswith(without))
    return {name.removeprefix(above): tensors[name] for name in names}


def blocks(table: Table, depth: int, first: int = 0) -> Table:
    """Return the table of `depth` blocks, numbered `{i}` from `first`; our arrays are stacked."""
    return {
        ours: (
            _stacked(layout, len(names)),
            *(name.format(i=i) for i in range(first, first + depth) for name in names),
        )
        for ours, (layout, *names) in table.items()
    }


def _stacked(layout: Layout, parts: int) -> Layout:
    return lambda *w: np.stack([layout(*w[i : i + parts]) for i in range(0, len(w), parts)])


# Layouts map the kernel of a convolution from (O, I, *K) to (*K, I, O), and that of a layer from
# (O, I) or (O, I, 1, 1) to (I, O).


def same(w: np.ndarray) -> np.ndarray:
    """Keep the layout."""
    return w


def kernel(w: np.ndarray) -> np.ndarray:
    """Return the kernel of a convolution (O, I, *K) as (*K, I, O)."""
    return np.moveaxis(w, (0, 1), (-1, -2))


def matrix(w: np.ndarray) -> np.ndarray:
    """Return the kernel of a layer (O, I), or (O, I, 1, 1), as (I, O)."""
    return w.reshape(w.shape[:2]).T


def interleaved(heads: int, order: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the layout of a projection to queries, keys and values of all heads.

    It sorts the rows from `order` of the axes 3, h and c to (3, heads, channels).
    """
    axes = [order.index(axis) for axis in "3hc"]

    def layout(w: np.ndarray) -> np.ndarray:
        sizes = {"3": 3, "h": heads, "c": len(w) // 3 // heads}
        rows = np.arange(len(w)).reshape([sizes[axis] for axis in order]).transpose(axes).ravel()
        return matrix(w[rows]) if w.ndim > 1 else w[rows]

    return layout


def side_by_side(*w: np.ndarray) -> np.ndarray:
    """Concatenate layers (O, I), or (O, I, 1, 1), as (I, O), or biases, along their outputs."""
    return np.concatenate([matrix(a) if a.ndim > 1 else a for a in w], axis=-1)


def stacked(*w: np.ndarray) -> np.ndarray:
    """Concatenate matrices that are (I, O) already, or biases."""
    return np.concatenate(w, axis=-1)


def beside(channels: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the layout of the kernel of a first convolution, whose last inputs are a map.

    channels: those of the map. Our maps have masks of the values present as further channels, which
    the network does not know: their weights are 0.
    """

    def layout(w: np.ndarray) -> np.ndarray:
        own = kernel(w)
        return np.concatenate([own, np.zeros_like(own[..., :channels, :])], -2)

    return layout


def with_null(labels: np.ndarray) -> np.ndarray:
    """Prepend a zero row, the null label, to rows (classes, width)."""
    return np.concatenate([np.zeros_like(labels[:1]), labels])


def layer(ours: str, theirs: str, layout: Any = matrix, bias: Any = same) -> Table:
    """Return the entries of a layer."""
    table: Table = {f"{ours}/kernel": (layout, f"{theirs}.weight")}
    return table | ({f"{ours}/bias": (bias, f"{theirs}.bias")} if bias else {})


def joined(ours: str, *theirs: str, layout: Layout = side_by_side) -> Table:
    """Return the entries of a layer that is several layers of theirs, by default side by side."""
    return {
        f"{ours}/{leaf}": (layout, *(f"{name}.{part}" for name in theirs))
        for leaf, part in (("kernel", "weight"), ("bias", "bias"))
    }


def conv(ours: str, theirs: str) -> Table:
    """Return the entries of a convolution."""
    return layer(ours, theirs, kernel)


def norm(ours: str, theirs: str) -> Table:
    """Return the entries of a norm."""
    return {f"{ours}/scale": (same, f"{theirs}.weight"), f"{ours}/bias": (same, f"{theirs}.bias")}
