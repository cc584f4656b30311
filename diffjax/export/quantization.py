"""Quantization to INT8 of the layers of a network, as a pass over its plain operations.

A weight w of output channel j becomes round(w / s_j) with s_j = max |w| / 127 over its inputs.
`w8` computes with these integers as floats. `w8a8` also rounds the inputs of a layer, by the
largest value of each token, or of each sample for convolutions, whose kernels see several tokens,
and multiplies integers. In floats stay the first and the last layer, and layers on one vector per
sample, such as the embedding of the noise level and modulation, whose errors reach every token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from diffjax.denoiser import Denoiser
from diffjax.export.plain import Values, operation, plain
from diffjax.io.trees import flat, nested
from diffjax.nets import Network

KINDS = ("w8", "w8a8")
MOST = 127
LAYERS = ("dot_general", "conv_general_dilated")
INTEGERS, SCALE = ".int8", ".scale"
"""Endings of the names of quantized weights and of their scales."""


def quantized(denoise: Denoiser, kind: str, x: Any, cond: Mapping[str, Any]) -> Denoiser:
    """Return the denoiser with INT8 weights, whose parameters have names of their own.

    x, cond: an example of its inputs (B, ...), or their shapes. Raises ValueError for another kind,
    and for a network without layers on several tokens.

    >>> quantized(None, "w4", None, {})
    Traceback (most recent call last):
    ValueError: quantize='w4': unknown; known: w8, w8a8
    """
    if kind not in KINDS:
        raise ValueError(f"quantize={kind!r}: unknown; known: {', '.join(KINDS)}")
    network, params = denoise.model.network, denoise.params["network"]
    shaped = lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a))
    weights = jax.tree.map(shaped, params)
    described = tuple((k, a.shape, str(a.dtype)) for k, a in flat(weights).items())
    x, cond = shaped(x), jax.tree.map(shaped, dict(cond))
    c_noise = jax.ShapeDtypeStruct(x.shape[:1], jnp.float32)
    split = Split(network, weights, x, c_noise, cond or None)
    if not split.layers:
        raise ValueError(f"quantize={kind!r}: the network has no layer on several tokens")
    stored = nested(jax.jit(split.weights)(params))
    model = replace(denoise.model, network=Network(network.init, Rounded(network, described, kind)))
    return replace(denoise, model=model, params={**denoise.params, "network": stored})


@dataclass(frozen=True)
class Rounded:
    """The function `apply` of a quantized network.

    network: the network in floats. described: name, shape and type of its parameters.
    """

    network: Network
    described: tuple[tuple[str, tuple[int, ...], str], ...]
    kind: str

    def __call__(
        self, params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None, **joins: Any
    ) -> Any:
        if key is not None or joins:
            raise ValueError("a quantized network is neither trained nor controlled")
        weights = nested({name: jax.ShapeDtypeStruct(*more) for name, *more in self.described})
        split = Split(self.network, weights, x, c_noise, cond)
        outputs = split.outputs(flat(params), self.kind, *jax.tree.leaves((x, c_noise, cond)))
        return jax.tree.unflatten(split.structure, outputs)


class Split:
    """The plain operations of a network, those on weights alone apart from those on its inputs.

    layers: the operations that are quantized.
    """

    def __init__(self, network: Network, weights: Any, x: Any, c_noise: Any, cond: Any):
        self._closed = plain(network.apply, weights, x, c_noise, cond)
        self.structure = jax.tree.structure(
            jax.eval_shape(network.apply, weights, x, c_noise, cond)
        )
        names, jaxpr = list(flat(weights)), self._closed.jaxpr
        self._count = len(names)
        self._origins = {v: (k,) for v, k in zip(jaxpr.invars, names, strict=False)}
        for eqn in jaxpr.eqns:  # an operation on weights and numbers alone gives weights
            variables = [v for v in eqn.invars if not isinstance(v, Literal)]
            if variables and all(v in self._origins for v in variables):
                origin = tuple(dict.fromkeys(n for v in variables for n in self._origins[v]))
                self._origins |= dict.fromkeys(eqn.outvars, origin)
        layers = [eqn for eqn in jaxpr.eqns if self._wide(eqn, x.shape[0])]
        self.layers = layers[1:-1]
        self._names = self._named()

    def _on_weights(self, eqn: Any) -> bool:
        return bool(eqn.outvars) and all(v in self._origins for v in eqn.outvars)

    def _wide(self, eqn: Any, batch: Any) -> bool:
        """Return whether an operation is a layer on more than one vector per sample."""
        if eqn.primitive.name not in LAYERS or eqn.params.get("feature_group_count", 1) != 1:
            return False
        x, w = eqn.invars
        if w not in self._origins or x in self._origins:
            return False
        if eqn.primitive.name == "dot_general":
            (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
            free = [n for i, n in enumerate(x.aval.shape) if i not in contracted]
            return not batched and math.prod(free) != batch
        return True

    def _named(self) -> dict[Any, str]:
        """Return names of the weights that operations on inputs read, in their order."""
        names: dict[Any, str] = {}
        eqns = [eqn for eqn in self._closed.jaxpr.eqns if not self._on_weights(eqn)]
        for variable in (v for eqn in eqns for v in eqn.invars):
            if isinstance(variable, Literal) or variable not in self._origins or variable in names:
                continue
            base = "+".join(name.replace("/", ".") for name in self._origins[variable])
            same = sum(name.split(":")[0] == base for name in names.values())
            names[variable] = f"{base}:{same}" if same else base
        return names

    def weights(self, params: Any) -> dict[str, Any]:
        """Return the weights that operations on inputs read, by name, those of layers in INT8."""
        values, jaxpr = Values(), self._closed.jaxpr
        values.write(jaxpr.invars[: self._count], jax.tree.leaves(params))
        for eqn in jaxpr.eqns:
            if self._on_weights(eqn):
                values.write(eqn.outvars, operation(eqn, values.read(eqn.invars)))
        rounded = {eqn.invars[1]: eqn for eqn in self.layers}
        stored = {}
        for variable, name in self._names.items():
            (value,) = values.read([variable])
            if variable in rounded:
                integers, scale = rounding(value, inputs_of(rounded[variable]))
                stored |= {name + INTEGERS: integers, name + SCALE: scale}
            else:
                stored[name] = value
        return stored

    def outputs(self, weights: Mapping[str, Any], kind: str, *inputs: Any) -> list[Any]:
        """Compute the outputs, leaves in order, from the weights of `weights` and the inputs."""
        values, jaxpr, layers = Values(), self._closed.jaxpr, {id(e) for e in self.layers}
        values.write(jaxpr.constvars, self._closed.consts)
        values.write(jaxpr.invars[self._count :], inputs)
        floats = {v: weights[name] for v, name in self._names.items() if name in weights}
        values.write(list(floats), list(floats.values()))
        for eqn in jaxpr.eqns:
            if self._on_weights(eqn):
                continue
            if id(eqn) in layers:
                name = self._names[eqn.invars[1]]
                (x,) = values.read(eqn.invars[:1])
                args = (x, weights[name + INTEGERS], weights[name + SCALE])
                values.write(eqn.outvars, [layer(eqn, kind, *args)])
            else:
                values.write(eqn.outvars, operation(eqn, values.read(eqn.invars)))
        return values.read(jaxpr.outvars)


def rounding(values: Any, axes: Sequence[int]) -> tuple[Any, Any]:
    """Return integers in [-127, 127], and the scale by which they are the values.

    There is one scale for all values along `axes`.

    >>> q, scale = rounding(jnp.array([[1.0, -0.5]]), (1,))
    >>> q.tolist(), bool(jnp.allclose(q * scale, jnp.array([[1.0, -0.5]]), atol=0.01))
    ([[127, -64]], True)
    """
    largest = jnp.max(jnp.abs(values), tuple(axes), keepdims=True).astype(jnp.float32)
    scale = jnp.where(largest == 0, 1, largest) / MOST
    return jnp.round(values / scale).astype(jnp.int8), scale


def inputs_of(eqn: Any) -> list[int]:
    """Return the axes of the weight of a layer that run over its inputs, not over its outputs."""
    if eqn.primitive.name == "dot_general":
        return list(eqn.params["dimension_numbers"][0][1])
    return list(eqn.params["dimension_numbers"].rhs_spec[1:])


def layer(eqn: Any, kind: str, x: Any, integers: Any, scale: Any) -> Any:
    """Compute a layer whose weight is `integers * scale`."""
    numbers, dense = eqn.params["dimension_numbers"], eqn.primitive.name == "dot_general"
    if dense:
        ((along, _), _), ndim = numbers, x.ndim
        scale = lax.expand_dims(lax.squeeze(scale, inputs_of(eqn)), range(ndim - len(along)))
    else:
        along = [i for i in range(x.ndim) if i != numbers.lhs_spec[0]]
        shape = [1] * x.ndim
        shape[numbers.out_spec[1]] = scale.size
        scale = scale.reshape(shape)
    if kind == "w8":
        return eqn.primitive.bind(x, integers.astype(x.dtype), **eqn.params) * scale
    tokens, each = rounding(x, along)
    params = eqn.params | {"preferred_element_type": jnp.dtype(jnp.int32)}
    product = eqn.primitive.bind(tokens, integers, **params).astype(jnp.float32)
    if dense:
        free = integers.ndim - len(along)
        each = lax.expand_dims(
            lax.squeeze(each, along), range(x.ndim - len(along), x.ndim - len(along) + free)
        )
    return (product * each * scale).astype(x.dtype)
