"""Costs of a network: its layers, parameters, FLOPs and stored activations, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffjax.arrays import Params
from diffjax.nets.network import Network


class Layer(NamedTuple):
    """A module of a network: its path, class, output shape and number of parameters in all."""

    path: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    parameters: int


class Costs(NamedTuple):
    """The costs of one batch.

    layers: in the order of their calls. parameters: their number. flops, gradient_flops: of a
    forward pass, and of a forward and backward pass; they count all products, 2 for a multiply-add.
    stored: bytes that are stored for the gradient.
    """

    layers: list[Layer]
    parameters: int
    flops: int
    gradient_flops: int
    stored: int


def costs(network: Network, x: Any, c_noise: Any, cond: Any) -> Costs:
    """Return the costs for inputs of these shapes (`jax.ShapeDtypeStruct`); nothing is computed."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    seen: dict[tuple[str, ...], tuple[str, Any]] = {}

    def record(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        outputs = call(*args, **kwargs)
        if context.method_name == "__call__":
            first = next((a for a in jax.tree.leaves(outputs) if hasattr(a, "shape")), None)
            seen.setdefault(context.module.path, (type(context.module).__name__, first))
        return outputs

    with nn.intercept_methods(record):
        # A new function: JAX may have cached the trace of `init` itself and then calls no module.
        params = jax.eval_shape(lambda *inputs: network.init(*inputs), key, x, c_noise, cond)
    layers = [
        Layer(path, kind, () if a is None else a.shape, count(_within(params, path)))
        for path, (kind, a) in seen.items()
        if path
    ]
    inputs = (params, x, c_noise, cond)
    loss = lambda *inputs: sum(jnp.sum(a**2) for a in jax.tree.leaves(network.apply(*inputs)))
    pullback = lambda params, *others: jax.vjp(lambda p: network.apply(p, *others), params)[1]

    def kept(times: int) -> int:
        """Return the bytes stored for the gradient of `times` batches, parameters included."""
        wide = lambda a: jax.ShapeDtypeStruct((times * a.shape[0], *a.shape[1:]), a.dtype)
        saved = jax.eval_shape(pullback, params, *jax.tree.map(wide, (x, c_noise, cond)))
        return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(saved))

    return Costs(
        layers,
        count(params),
        flops(jax.make_jaxpr(network.apply)(*inputs)),
        flops(jax.make_jaxpr(jax.grad(loss))(*inputs)),
        kept(2) - kept(1),
    )


def count(params: Params) -> int:
    """Return the number of values in a tree of arrays or shapes."""
    return sum(math.prod(a.shape) for a in jax.tree.leaves(params))


def _within(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params.get(name, {})
    return params


def flops(jaxpr: Any) -> int:
    """Return the FLOPs of all products in a traced program; a loop counts once per iteration."""
    total = 0
    for eqn in jaxpr.eqns:
        if rule := PRODUCTS.get(eqn.primitive.name):
            total += rule(eqn)
            continue
        inner = [flops(sub) for sub in _inner(eqn)]
        if eqn.primitive.name == "cond":
            total += max(inner, default=0)
        else:
            total += eqn.params.get("length", 1) * sum(inner)
    return total


def _inner(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _matrix_product(eqn: Any) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    a = eqn.invars[0].aval.shape
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(a[i] for i in contracted)


def _convolution(eqn: Any) -> int:
    """Return the FLOPs of a convolution.

    The kernel is (*K, C, F), so each output value is a sum of K C products.
    """
    kernel = eqn.invars[1].aval.shape
    numbers = eqn.params.get("dimension_numbers")
    out = numbers.rhs_spec[0] if numbers else len(kernel) - 1
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) // kernel[out]


def _kernel_gradient(eqn: Any) -> int:
    """Return the FLOPs of a kernel's gradient, which sums over all places of the batch."""
    places = eqn.invars[0].aval.shape[:-1]
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(places)


def _attention(products: int, first: int) -> Callable[[Any], int]:
    """Return a rule for `products` products of (L, d) with (d, M) per sample and head.

    first: the index of the input that holds q.
    """

    def rule(eqn: Any) -> int:
        b, l, h, d = eqn.invars[first].aval.shape
        return products * 2 * b * h * l * eqn.invars[first + 1].aval.shape[1] * d

    return rule


PRODUCTS: dict[str, Callable[[Any], int]] = {
    "dot_general": _matrix_product,
    "conv_general_dilated": _convolution,
    "convolution": _convolution,
    "convolution_kernel_gradient": _kernel_gradient,
    "upsampled_convolution": _convolution,
    "attention": _attention(2, 0),
    "attention_along": _attention(6, 3),
    "attention_gradient": _attention(5, 1),
}
