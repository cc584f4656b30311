"""Networks of flax.nnx modules."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx

from diffjax.arrays import Params
from diffjax.nets.network import DTYPES, Network, fixed, unchanged


@dataclass(frozen=True)
class Maker:
    """A module class with its settings; where both are equal, the program is compiled once."""

    module: type[flax_nnx.Module]
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, rngs: flax_nnx.Rngs) -> flax_nnx.Module:
        module: Any = self.module
        return module(**dict(self.settings), rngs=rngs)


@functools.lru_cache(32)
def _abstract(make: Maker) -> tuple[Any, Any, Any]:
    """Return the graph, parameters and random streams of the module, as shapes.

    Raises ValueError where the module has other state.
    """
    module = flax_nnx.eval_shape(lambda: make(flax_nnx.Rngs(0)))
    graph, *states = flax_nnx.split(module, flax_nnx.Param, flax_nnx.RngState, ...)
    params, streams, others = (flax_nnx.to_flat_state(state) for state in states)
    if others := [(path, type(variable).__name__) for path, variable in others]:
        path, kind = others[0]
        raise ValueError(
            f"{make.module.__name__}: {'.'.join(map(str, path))} is a {kind}; a network must be a "
            f"pure function of its parameters: needs nnx.Param, and constants outside of variables"
        )
    return graph, params, streams


@dataclass(frozen=True)
class _Init:
    make: Maker

    def __repr__(self) -> str:
        return self.make.module.__name__

    def __call__(self, key: Any, x: Any, c_noise: Any, cond: Any) -> Params:
        _abstract(self.make)  # refuses other state
        state = flax_nnx.state(self.make(flax_nnx.Rngs(key)), flax_nnx.Param)
        return _by_name(flax_nnx.to_pure_dict(state))


@dataclass(frozen=True)
class _Apply:
    make: Maker
    dtype: str

    def __call__(self, params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None) -> Any:
        graph, wanted, streams = _abstract(self.make)
        cast = lambda path, a: a if fixed(path) else a.astype(self.dtype)
        params, x_in = jax.tree_util.tree_map_with_path(cast, (params, x))
        at = lambda path: functools.reduce(lambda tree, k: tree[str(k)], path, params)
        filled = [(path, variable.replace(at(path))) for path, variable in wanted]
        drawn = [
            (path, variable.replace(_stream(path, variable, key))) for path, variable in streams
        ]
        module: Any = flax_nnx.merge(graph, *map(flax_nnx.from_flat_state, (filled, drawn)))
        if key is None:
            module.eval()
        else:
            module.train()
        return jax.tree.map(lambda a: a.astype(x.dtype), module(x_in, c_noise, cond))


def _stream(path: tuple[Any, ...], variable: Any, key: Any) -> Any:
    """Return a separate key for each random stream of the module, and 0 for its count."""
    if not isinstance(variable, flax_nnx.RngKey):
        return jnp.zeros(variable.shape, variable.dtype)
    base = jax.random.key(0) if key is None else key
    return jax.random.fold_in(base, zlib.crc32(repr(path).encode()))


def _by_name(tree: Any) -> Any:
    """Return the tree with the indices of lists as strings, as parameter names in files."""
    if not isinstance(tree, dict):
        return tree
    return {str(k): _by_name(v) for k, v in tree.items()}


def nnx(
    module: type[flax_nnx.Module],
    dtype: str = "float32",
    project: Callable[[Params], Params] = unchanged,
    **settings: Any,
) -> Network:
    """Return the network of a flax.nnx module.

    The module is constructed by `module(**settings, rngs=rngs)` and called as `module(x, c_noise,
    cond)`. Its `nnx.Param` are the parameters, by their paths: `init` draws them, and `apply`
    receives them. Dropout draws from the key of the step and is off in evaluation
    (`module.train()`, `module.eval()`). dtype: the type of the compute, float32 or bfloat16, as for
    `linen`. settings: hashable values. project: as in `Network`. Raises ValueError for another
    dtype and, at first use, for variables that are neither parameters nor random streams, such as
    BatchStat: a network is a pure function and keeps no other state.

    >>> class Scale(flax_nnx.Module):
    ...     def __init__(self, size, rngs):
    ...         self.scale = flax_nnx.Param(jnp.ones(size))
    ...     def __call__(self, x, c_noise, cond):
    ...         return self.scale[None] * x
    >>> network = nnx(Scale, size=2)
    >>> params = network.init(jax.random.key(0), jnp.ones((3, 2)), jnp.ones(3), None)
    >>> network.apply(params, jnp.ones((3, 2)), jnp.ones(3), None).shape
    (3, 2)
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: unknown; known: {', '.join(DTYPES)}")
    make = Maker(module, tuple(sorted(settings.items())))
    hash(make)
    return Network(_Init(make), _Apply(make, dtype), project)
