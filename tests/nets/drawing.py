"""Random parameters for tests, drawn on the host or by a part of `init` only.

A compiled `init` takes seconds, as each of its dozens of tensors has a program of random bits.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from diffjax.nets import Network


def random_like(shapes: Any, *, seed: int = 1, scale: float = 0.3) -> Any:
    """Redraw every tensor at random, because fresh networks return zero for any input."""
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    # A product in NumPy: JAX would compile a conversion for each shape.
    draw = lambda a: jnp.asarray((scale * rng.normal(size=a.shape)).astype(a.dtype))
    return jax.tree.unflatten(tree, [draw(a) for a in leaves])


def key(n: int) -> jax.Array:
    """A key whose program compiles fast."""
    return jax.random.key(n, impl="unsafe_rbg")


class Fresh:
    """The parameters that `init` returns for these inputs, traced once but not drawn."""

    def __init__(self, network: Network, *inputs: Any):
        self._traced = jax.jit(network.init).trace(key(0), *inputs)
        self._inputs = jax.tree.leaves(inputs)
        info = self._traced.out_info
        self.shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), info)

    @functools.cached_property
    def program(self) -> str:
        """Return the text of the traced program; equal programs draw equal parameters."""
        return str(self._traced.jaxpr)

    def values(self, *names: str) -> dict[str, Any]:
        """Return fresh parameters of these layers, which alone are compiled and drawn."""
        init, form = jaxpr_as_fun(self._traced.jaxpr), jax.tree.structure(self.shapes)

        def some(n: jax.Array) -> dict[str, Any]:
            params = jax.tree.unflatten(form, init(n, *self._inputs))
            return {name: params[name] for name in names}

        return jax.jit(some)(key(0))
