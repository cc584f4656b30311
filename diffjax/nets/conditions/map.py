"""Channels on the grid of the input: a small image enlarged, an image with holes, grey values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import absent, present


@dataclass(frozen=True)
class Map:
    """Channels (B, *D, size) beside the input, and for each a mask of the values present.

    >>> Map(1).beside(jnp.array([[[0.5], [jnp.nan]]]), float).tolist()
    [[[0.5, 1.0], [0.0, 0.0]]]
    """

    size: int
    name: str = "map"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("beside",)
    droppable: ClassVar[bool] = True

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (*x[:-1], self.size)

    def missing(self, x: Float[Array, "b *d c"]) -> Float[Array, "b *d n"]:
        return absent(*x.shape[:-1], self.size)

    def beside(self, value: Float[Array, "b *d n"], dtype: Any) -> Float[Array, "b *d m"]:
        known, there = present(value, dtype)
        return jnp.concatenate([known, there.astype(dtype)], -1)
