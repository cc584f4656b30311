"""Continuous conditions: floats (size,)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Vector as Embedded
from diffjax.nets.conditions.base import absent, learned, place, present
from diffjax.nets.magnitude import normalize


@dataclass(frozen=True)
class Vector:
    """Numbers (B, size), embedded by one layer; a learned vector where one of them is missing.

    >>> Vector(3).shape((4, 32, 32, 3)), Vector(3).mechanisms
    ((4, 3), ('embedding', 'unit'))
    """

    size: int
    name: str = "vector"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("embedding", "unit")
    droppable: ClassVar[bool] = True

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0], self.size)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, "b n"]:
        return absent(len(x), self.size)

    def embed(
        self, value: Float[Array, "b n"], width: int, dtype: Any, rows: Initializer
    ) -> Embedded:
        vector, there = present(value, dtype)
        vector = nn.Dense(width, name=place(self))(vector)
        null = learned(f"no_{place(self)}", len(value), width)
        return jnp.where(there.all(-1, keepdims=True), vector, null)

    def unit(self, value: Float[Array, "b n"], dtype: Any) -> Embedded:
        vector, there = present(value, dtype)
        return normalize(vector, (1,)) * there.all(-1, keepdims=True).astype(dtype)
