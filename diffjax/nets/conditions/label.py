"""Class labels: integers in [0, size), or -1 for a missing label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int

from diffjax.checks import known_label
from diffjax.nets.conditions.base import Vector, place


@dataclass(frozen=True)
class Label:
    """One of `size` classes (B,): a learned vector for each class, and one for a missing class.

    In a compiled program a class out of range results in NaN.

    >>> Label(10).missing(jnp.zeros((3, 2))).tolist()
    [-1, -1, -1]
    """

    size: int
    name: str = "label"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("embedding", "unit")
    droppable: ClassVar[bool] = True

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0],)

    def missing(self, x: Float[Array, "b *d"]) -> Int[Array, " b"]:
        return jnp.full(x.shape[0], -1, jnp.int32)

    def embed(self, value: Int[Array, " b"], width: int, dtype: Any, rows: Initializer) -> Vector:
        table = nn.Embed(self.size + 1, width, embedding_init=rows, name=place(self))
        return table(jnp.where(known_label(value, self.size), value + 1, self.size + 1))

    def unit(self, value: Int[Array, " b"], dtype: Any) -> Vector:
        rows = jax.nn.one_hot(value, self.size, dtype=dtype) * math.sqrt(self.size)
        return jnp.where(known_label(value, self.size)[:, None], rows, jnp.nan)
