"""What a network may be told besides the noise level: one mechanism for every backbone.

`cond` is a dict of arrays. What is absent from it is missing for all samples; of one sample it is
missing where it is -1 (labels) or NaN (all others). Each has a null of its own, so that training
with conditions dropped gives the reference of classifier-free guidance (arXiv:2207.12598).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.linear import default_embed_init
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float

from diffjax.arrays import Cond


@dataclass(frozen=True)
class Conditions:
    """The conditions that a network is built for; 0 leaves one out.

    classes: `cond["label"]` (B,) is in [0, classes), or -1. vector: width of `cond["vector"]` (B,
    vector), a continuous description. tokens: width of `cond["tokens"]` (B, L, tokens), a sequence
    of any length, in which single tokens may be missing. map: channels of `cond["map"]` (B, *D,
    map) on the grid of the input: a small image enlarged, an image with holes, its grey values;
    single values may be missing. augment: width of `cond["augment"]` (B, augment), how the input
    was augmented (arXiv:2206.00364, app. F.2); 0 where absent. ValueError for a negative one.
    """

    classes: int = 0
    vector: int = 0
    tokens: int = 0
    map: int = 0
    augment: int = 0

    def __post_init__(self):
        for f in fields(self):
            if getattr(self, f.name) < 0:
                raise ValueError(f"{f.name}={getattr(self, f.name)}: needs {f.name} >= 0")

    def check(self, x: Float[Array, "b *d"], cond: Cond | None) -> Cond:
        """`cond`, or {}. Raises ValueError for what the network was not built for."""
        b, cond = len(x), cond or {}
        known = {
            "label": self.classes and (b,),
            "vector": self.vector and (b, self.vector),
            "tokens": self.tokens and (b, None, self.tokens),
            "map": self.map and (*x.shape[:-1], self.map),
            "augment": self.augment and (b, self.augment),
        }
        known = {name: shape for name, shape in known.items() if shape}
        if unknown := set(cond) - set(known):
            raise ValueError(
                f"condition {sorted(unknown)}: this network knows {sorted(known)} ({self})"
            )
        for name, value in cond.items():
            same = [n in (None, m) for n, m in zip(known[name], value.shape, strict=False)]
            if len(same) != len(known[name]) or value.ndim != len(same) or not all(same):
                raise ValueError(f"cond[{name!r}] {value.shape}: needs {known[name]} ({self})")
        return cond


def pooled(
    x: Float[Array, "b *d"],
    cond: Cond,
    conditions: Conditions,
    width: int,
    labels: Initializer = default_embed_init,
) -> Float[Array, "b w"]:
    """Label and vector as one vector (B, width), the sum of what there is; 0 for neither.

    labels: how their vectors are drawn at first. Called inside a module, which has the layers.
    """
    made = jnp.zeros((len(x), width), x.dtype)
    if conditions.classes:
        label = cond.get("label", jnp.full(len(x), -1, jnp.int32))
        made = made + nn.Embed(conditions.classes + 1, width, embedding_init=labels, name="label")(
            label + 1
        )
    if conditions.vector:
        vector, there = present(cond.get("vector", missing(len(x), conditions.vector)), x.dtype)
        vector = nn.Dense(width, name="vector")(vector)
        made = made + jnp.where(there.all(-1, keepdims=True), vector, null("no_vector", x, width))
    return made


def sequence(
    x: Float[Array, "b *d"], cond: Cond, conditions: Conditions, width: int
) -> tuple[Float[Array, "b m w"], Bool[Array, "b m"]]:
    """The tokens at one width, and which are there: (B, 1 + L, width), (B, 1 + L).

    The first is learned and always there, so attention is never to nothing. Called inside a module,
    which has the layers.
    """
    tokens, there = present(cond.get("tokens", missing(len(x), 0, conditions.tokens)), x.dtype)
    tokens = nn.Dense(width, name="tokens")(tokens)
    there = jnp.concatenate([jnp.ones((len(x), 1), bool), there.all(-1)], 1)
    return jnp.concatenate([null("no_tokens", x, width)[:, None], tokens], 1), there


def null(name: str, x: Float[Array, "b *d"], width: int) -> Float[Array, "b w"]:
    """One learned vector for all samples."""
    return nn.Embed(1, width, name=name)(jnp.zeros(len(x), jnp.int32))


def with_map(
    x: Float[Array, "b *d c"], cond: Cond, conditions: Conditions
) -> Float[Array, "b *d e"]:
    """x and the map side by side, and per map channel whether a value is there: c + 2 map."""
    if not conditions.map:
        return x
    given, there = present(cond.get("map", missing(*x.shape[:-1], conditions.map)), x.dtype)
    return jnp.concatenate([x, given, there.astype(x.dtype)], -1)


def missing(*shape: int) -> Array:
    """A condition that no sample has."""
    return jnp.full(shape, jnp.nan)


def present(value: Float[Array, "..."], dtype: Any) -> tuple[Array, Array]:
    """The values with 0 for what is missing, and whether each is there."""
    there = ~jnp.isnan(value)
    return jnp.where(there, value, 0).astype(dtype), there
