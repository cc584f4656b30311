"""Continuous conditions: floats (size,)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Vector as Embedded
from diffjax.nets.conditions.base import absent, learned, place, present
from diffjax.nets.magnitude import normalize

WAVES = 256
"""The number of cosines and sines of a number."""


def waves(numbers: Float[Array, "b n"]) -> Float[Array, "b w"]:
    """Return cosines, then sines of each number at frequencies in (1e-4, 1].

    >>> waves(jnp.zeros((1, 2)))[0, [0, 255, 256]].tolist()
    [1.0, 0.0, 1.0]
    """
    half = WAVES // 2
    frequency = jnp.exp(-math.log(10000) * jnp.arange(half) / half)
    angle = numbers[..., None] * frequency[None, None]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1).reshape(numbers.shape[0], -1)


@dataclass(frozen=True)
class Vector:
    """Numbers (B, size), embedded by one layer; a learned vector where one of them is missing.

    layers: 1, or 2 with SiLU. waves: how many of the last numbers enter by 256 cosines and sines
    each, such as sizes in pixels (arXiv:2307.01952, sec. 2.2). null: whether there is a learned
    vector; without it, missing numbers add nothing. Raises ValueError for values out of range.

    >>> Vector(3).shape((4, 32, 32, 3)), Vector(3).mechanisms
    ((4, 3), ('embedding', 'unit'))
    """

    size: int
    name: str = "vector"
    mechanism: str = ""
    layers: int = 1
    waves: int = 0
    null: bool = True
    mechanisms: ClassVar[tuple[str, ...]] = ("embedding", "unit")
    droppable: ClassVar[bool] = True

    def __post_init__(self):
        if self.layers not in (1, 2):
            raise ValueError(f"condition {self.name!r}: layers={self.layers}: unknown; known: 1, 2")
        if not 0 <= self.waves <= self.size:
            raise ValueError(
                f"condition {self.name!r}: waves={self.waves}: needs 0 <= waves <= {self.size}"
            )

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0], self.size)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, "b n"]:
        return absent(x.shape[0], self.size)

    def embed(
        self, value: Float[Array, "b n"], width: int, dtype: Any, rows: Initializer
    ) -> Embedded:
        vector, there = present(value, dtype)
        if self.waves:
            kept, numbers = jnp.split(vector, [self.size - self.waves], -1)
            vector = jnp.concatenate([kept, waves(numbers).astype(dtype)], -1)
        vector = nn.Dense(width, name=place(self))(vector)
        if self.layers == 2:
            vector = nn.Dense(width, name=f"{place(self)}_out")(nn.silu(vector))
        if not self.null:
            return jnp.where(there.all(-1, keepdims=True), vector, 0)
        null = learned(f"no_{place(self)}", value.shape[0], width)
        return jnp.where(there.all(-1, keepdims=True), vector, null)

    def unit(self, value: Float[Array, "b n"], dtype: Any) -> Embedded:
        vector, there = present(value, dtype)
        return normalize(vector, (1,)) * there.all(-1, keepdims=True).astype(dtype)
