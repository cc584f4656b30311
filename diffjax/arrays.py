"""Helpers for arrays: catalogues, broadcasting, conditions, random streams and host float64."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped, UInt, UInt32

Cond = Mapping[str, Array]
"""Conditions by name, each (B, ...). A missing one is -1 (signed integers) or NaN (floats);
unsigned integers, such as lengths, are never missing."""
Params = dict[str, Any]
"""A nested dict of arrays."""
BATCH = ("replica", "data")
"""The axes of a mesh of devices over which batches are split."""
T = TypeVar("T")


def catalogue(*entries: Any) -> dict[str, Any]:
    """Map each entry's name in a config to the entry.

    >>> from diffjax.sde import SubVP, levels
    >>> list(catalogue(levels, SubVP))
    ['levels', 'sub_vp']
    """
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", e.__name__).lower(): e for e in entries}


def pytree(cls: type[T]) -> type[T]:
    """Register a frozen dataclass as a pytree whose structure includes its class.

    Fields with the metadata `static` belong to the structure, the others are its children, as with
    `jax.tree_util.register_dataclass`. In JAX 0.10.2 the structures of two classes registered by
    that function are equal if their static fields are, and `jit` may then run the program of one
    class for the other. The constructor is not called when JAX rebuilds an instance.

    >>> from dataclasses import dataclass
    >>> first, second = (pytree(dataclass(frozen=True)(type(name, (), {}))) for name in "ab")
    >>> jax.tree.structure(first()) == jax.tree.structure(second())
    False
    """
    entries = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    static = tuple(entry.name for entry in entries if entry.metadata.get("static"))
    names = tuple(entry.name for entry in entries if not entry.metadata.get("static"))
    keys = tuple(map(jax.tree_util.GetAttrKey, names))

    def flatten(instance: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = lambda chosen: tuple(getattr(instance, name) for name in chosen)
        return values(names), (cls, *values(static))

    def with_keys(instance: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, structure = flatten(instance)
        return tuple(zip(keys, children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Iterable[Any]) -> T:
        instance = object.__new__(cls)
        for name, value in zip((*static, *names), (*structure[1:], *children), strict=True):
            object.__setattr__(instance, name, value)
        return instance

    jax.tree_util.register_pytree_with_keys(cls, with_keys, unflatten, flatten)
    return cls


def rebuild(instance: T, **changes: Any) -> T:
    """Copy a frozen dataclass with other values in some fields.

    Unlike `dataclasses.replace` it does not run `__post_init__`, so values may be traced.

    >>> from diffjax.schedules import Cosine
    >>> rebuild(Cosine(), s=0.02)
    Cosine(s=0.02)
    """
    rebuilt = copy.copy(instance)
    for name, value in changes.items():
        object.__setattr__(rebuilt, name, value)
    return rebuilt


def expand(a: Shaped[Array, "..."], x: Float[Array, "b *d"]) -> Shaped[Array, "..."]:
    """Append axes to `a` until it broadcasts against `x`.

    a: (B,), one value per sample; (B, L) with the leading axes of `x`, one per position; or (),
    one for all. Raises ValueError for other shapes.

    >>> expand(jnp.ones(2), jnp.ones((2, 8, 8, 3))).shape
    (2, 1, 1, 1)
    >>> expand(jnp.ones((2, 8)), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 1, 1)
    """
    if a.shape != x.shape[: a.ndim]:
        shapes = f"values of shape {a.shape} for samples of shape {x.shape}"
        raise ValueError(f"{shapes}: needs one value per sample, {x.shape[:1]}")
    return a.reshape(a.shape + (1,) * (x.ndim - a.ndim))


def dims(x: Float[Array, "b *d"]) -> tuple[int, ...]:
    """Return all axes of x but the batch axis.

    >>> dims(jnp.ones((2, 8, 8, 3)))
    (1, 2, 3)
    """
    return tuple(range(1, x.ndim))


def stream(seed: Any, name: str) -> Key[Array, ""]:
    """Return the key of the random stream `name` of a run with this seed.

    Fold the index of a step or of a sample into it. Raises ValueError unless 0 <= seed < 2**32.

    >>> bool(stream(0, "sample") == stream(0, "noise"))
    False
    """
    if not isinstance(seed, Tracer) and not 0 <= seed < 2**32:  # JAX would take it modulo 2**32
        raise ValueError(f"seed={seed}: needs 0 <= seed < 2**32")
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def streams(seeds: UInt32[np.ndarray, " b"], name: str) -> Key[Array, " b"]:
    """Return the keys (B,) of the random stream `name` for several seeds (B,).

    >>> streams(np.array([0, 1], np.uint32), "sample").shape
    (2,)
    """
    return jax.vmap(lambda seed: stream(seed, name))(seeds)


def keys_at(key: Key[Array, "..."], index: Int[Array, " b"]) -> Key[Array, " b"]:
    """Return one key per index (B,), so that a sample keeps its key in whatever batch it is.

    key: one for all, (), or one for each index, (B,).

    >>> keys_at(jax.random.key(0), jnp.array([5, 17])).shape
    (2,)
    """
    return jax.vmap(jax.random.fold_in, (0 if key.ndim else None, 0))(key, index)


def normal(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b *d"]:
    """Draw standard normal noise (B, *shape), that of sample b from keys[b].

    >>> normal(jax.random.split(jax.random.key(0), 3), (8, 8, 1)).shape
    (3, 8, 8, 1)
    """
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def within_length(length: UInt[Array, " b"], size: int, rank: int) -> Bool[Array, "b *_"]:
    """Return whether each of `size` positions lies within its item's length, (B, size, 1, ...).

    length: (B,). rank: number of axes of the result.

    >>> within_length(jnp.array([1, 3], jnp.uint32), size=3, rank=2).tolist()
    [[True, False, False], [True, True, True]]
    """
    inside = jnp.arange(size, dtype=length.dtype)[None] < length[:, None]
    return inside.reshape(inside.shape + (1,) * (rank - 2))


def null(cond: Cond) -> Cond:
    """Replace all conditions by their missing values, except lengths; those of NumPy stay there.

    >>> null({"label": jnp.array([3, 7])})["label"].tolist()
    [-1, -1]
    """
    of = lambda c: np if isinstance(c, np.ndarray) else jnp
    lost = lambda c: of(c).full_like(c, _missing(c)) if _may_miss(c) else c
    return jax.tree.map(lost, cond)


def taken(rows: Mapping[str, Any], num: int) -> dict[str, Any]:
    """Repeat rows (K, ...) of conditions in turn until there are `num` of them, (num, ...).

    >>> taken({"label": np.array([3, 7])}, 5)["label"].tolist()
    [3, 7, 3, 7, 3]
    """
    index = np.arange(num)
    return {name: value[index % len(value)] for name, value in rows.items()}


Rates = float | tuple[tuple[str, float], ...]
"""A probability for all conditions together, or pairs of a condition's name and its probability."""


def drop(cond: Cond, key: Key[Array, ""], rate: Rates | Mapping[str, float]) -> Cond:
    """Drop all conditions of a sample with probability `rate` (arXiv:2207.12598, Alg. 1).

    With rates by name each named condition is dropped independently and the others are kept.
    Raises ValueError for a name that is not in `cond`.

    >>> drop({"label": jnp.array([3, 7])}, jax.random.key(0), rate=1.0)["label"].tolist()
    [-1, -1]
    """
    if not isinstance(rate, int | float):
        rates = dict(rate)
        if unknown := set(rates) - set(cond):
            known = sorted(cond)
            raise ValueError(f"dropout of {sorted(unknown)}: no such condition; known: {known}")
        key_of = lambda name: jax.random.fold_in(key, zlib.crc32(name.encode()))
        alone = {name: drop({name: cond[name]}, key_of(name), rates[name]) for name in rates}
        return {name: alone.get(name, cond)[name] for name in cond}
    if not cond or not rate:
        return cond
    size = jax.tree.leaves(cond)[0].shape[0]
    gone = jax.random.bernoulli(key, rate, (size,))
    lost = lambda c: jnp.where(gone.reshape((size,) + (1,) * (c.ndim - 1)), _missing(c), c)
    return jax.tree.map(lambda c: lost(c) if _may_miss(c) else c, cond)


def _may_miss(c: Array) -> bool:
    """Return whether a condition has a missing value; unsigned integers, as lengths, have none."""
    return not jnp.issubdtype(c.dtype, jnp.unsignedinteger)


def _missing(c: Array) -> float:
    return -1 if jnp.issubdtype(c.dtype, jnp.integer) else float("nan")


def spread(tree: PyTree, sharding: Sharding) -> PyTree:
    """Turn values that are equal on all hosts into arrays over the devices of all hosts.

    Arrays that have this sharding already are returned unchanged.

    >>> from diffjax.devices.mesh import layout
    >>> spread({"step": np.arange(3)}, layout().everywhere)["step"].tolist()
    [0, 1, 2]
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def make(value: Any) -> Array:
        if isinstance(value, Array) and value.sharding == sharding:
            return value
        if not jnp.issubdtype((a := jnp.asarray(value)).dtype, jax.dtypes.prng_key):
            return jax.make_array_from_callback(a.shape, sharding, np.asarray(a).__getitem__)
        bits = spread(jax.random.key_data(a), sharding)
        return jax.jit(jax.random.wrap_key_data, static_argnames="impl")(
            bits, impl=jax.random.key_impl(a)
        )

    return jax.tree.map(make, tree)


def jit_leaves(function: Callable[..., Any], structure: Any, **options: Any) -> Any:
    """Jit a function whose first arguments have a fixed structure and are passed as their leaves.

    JAX keeps the structures of the arguments of each program in caches that last as long as the
    process: with a model in a structure, also everything that was traced for the model. Here, only
    the returned function holds `structure`, and it takes the traces and programs along when it is
    dropped.

    structure: of the tuple of the first arguments, `jax.tree.structure((a, b))`; the returned
    function has the list of their leaves as argument 0. options: of `jax.jit`.

    >>> add = jit_leaves(lambda pair, x: pair["a"] + x, jax.tree.structure(({"a": 0},)))
    >>> int(add([1], 2))
    3
    """

    def of_leaves(leaves: list[Any], *args: Any, **keywords: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves), *args, **keywords)

    return jax.jit(of_leaves, **options)


def float64(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Run an elementwise `function` on the host in float64, with NumPy arrays in and out.

    It also works inside a traced function. Arrays are padded to a power of two, at least 1024, so
    that few shapes are compiled.

    >>> float64(jnp.exp)(np.array([1.0])).round(12).tolist()
    [2.718281828459]
    """

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        cpu = jax.local_devices(backend="cpu")[0]
        with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(cpu):
            shape = np.shape(args[0])
            size = math.prod(shape)
            more = (1 << max(size - 1, 1023).bit_length()) - size if shape and size else 0
            flat = [np.pad(np.ravel(a), (0, more), "edge") if more else a for a in args]
            outputs = jax.tree.map(np.asarray, function(*map(jnp.asarray, flat)))
            cut = lambda a: a[..., :size].reshape(*a.shape[:-1], *shape)
            return jax.tree.map(cut, outputs) if more else outputs

    return run
