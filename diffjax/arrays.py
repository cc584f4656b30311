"""Type aliases, catalogues, per-sample scalars and conditions, random streams, host float64."""

from __future__ import annotations

import copy
import functools
import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped, UInt, UInt32

Cond = Mapping[str, Array]
"""Conditions by name, each (B, ...). A missing one is -1 (integers) or NaN (floats); unsigned ones,
as lengths, are never missing."""
Params = dict[str, Any]
"""Nested dict of arrays."""
T = TypeVar("T")


def catalogue(*entries: Any) -> dict[str, Any]:
    """Map the config name of each entry to it: `dpmpp_2m` for a function, `sub_vp` for `SubVP`."""
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", e.__name__).lower(): e for e in entries}


def rebuild(instance: T, **changes: Any) -> T:
    """A frozen dataclass with other values in some fields, which may be traced: not checked."""
    rebuilt = copy.copy(instance)
    for name, value in changes.items():
        object.__setattr__(rebuilt, name, value)
    return rebuilt


def expand(a: Shaped[Array, " b"], x: Float[Array, "b *d"]) -> Shaped[Array, "b *_"]:
    """Append axes to `a` until it broadcasts against `x`.

    Raises ValueError unless `a` has one value per sample, or is one for all, ().
    """
    if a.ndim and a.shape != x.shape[:1]:
        raise ValueError(f"{a.shape} beside {x.shape}: needs one value per sample, {x.shape[:1]}")
    return a.reshape(a.shape + (1,) * (x.ndim - a.ndim))


def dims(x: Float[Array, "b *d"]) -> tuple[int, ...]:
    """All axes but the batch axis."""
    return tuple(range(1, x.ndim))


def stream(seed: Any, name: str) -> Key[Array, ""]:
    """Key of the random stream `name` of a run; fold a step or a sample index into it.

    Raises ValueError unless 0 <= seed < 2**32.
    """
    if not isinstance(seed, Tracer) and not 0 <= seed < 2**32:  # JAX takes it modulo that
        raise ValueError(f"seed={seed}: needs 0 <= seed < 2**32")
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def streams(seeds: UInt32[np.ndarray, " b"], name: str) -> Key[Array, " b"]:
    """Keys of the random stream `name` of several runs."""
    return jax.vmap(lambda seed: stream(seed, name))(seeds)


def keys_at(key: Key[Array, "..."], index: Int[Array, " b"]) -> Key[Array, " b"]:
    """One key per index, whatever the batch they travel in. key: of all, (), or one of each."""
    return jax.vmap(jax.random.fold_in, (0 if key.ndim else None, 0))(key, index)


def normal(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b *d"]:
    """Standard normal noise (B, *shape), sample b from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def within_length(length: UInt[Array, " b"], size: int, rank: int) -> Bool[Array, "b *_"]:
    """Whether each of `size` positions belongs to its item, (B, size, 1, ...), `rank` axes."""
    inside = jnp.arange(size, dtype=length.dtype)[None] < length[:, None]
    return inside.reshape(inside.shape + (1,) * (rank - 2))


def null(cond: Cond) -> Cond:
    """The same conditions, all missing that may be."""
    lost = lambda c: jnp.full_like(c, _missing(c)) if _may_miss(c) else c
    return jax.tree.map(lost, cond)


def taken(rows: Mapping[str, Any], num: int) -> dict[str, Any]:
    """Conditions (num, ...) from rows (K, ...), which samples take in turn."""
    index = np.arange(num)
    return {name: value[index % len(value)] for name, value in rows.items()}


Rates = float | tuple[tuple[str, float], ...]
"""One chance for all conditions together, or name and chance of each that is alone."""


def drop(cond: Cond, key: Key[Array, ""], rate: Rates | Mapping[str, float]) -> Cond:
    """Make all conditions of a sample missing with chance `rate` (arXiv:2207.12598, Alg. 1).

    With rates by name each is drawn on its own, and the others stay. Raises ValueError for a name
    that is not in `cond`.
    """
    if not isinstance(rate, int | float):
        rates = dict(rate)
        if unknown := set(rates) - set(cond):
            raise ValueError(f"dropout of {sorted(unknown)}: the conditions are {sorted(cond)}")
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
    """Unsigned integers, as lengths, have no value that says missing."""
    return not jnp.issubdtype(c.dtype, jnp.unsignedinteger)


def _missing(c: Array) -> Array:
    return jnp.asarray(-1 if jnp.issubdtype(c.dtype, jnp.integer) else jnp.nan, c.dtype)


def spread(tree: PyTree, sharding: Sharding) -> PyTree:
    """Values that are equal on all hosts as arrays over the devices of all of them.

    Arrays that lie there already are left as they are.
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


def float64(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Run an elementwise `function` on the host in float64: NumPy in, NumPy out.

    Inside a traced function, too. Arrays are filled up to a power of two, 1024 or more, so that few
    shapes are compiled.
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
