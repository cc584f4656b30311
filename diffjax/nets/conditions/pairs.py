"""Channels of each pair of the points of an item: the bonds of a molecule, the edges of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import absent, present


@dataclass(frozen=True)
class Pairs:
    """Features (B, N, N, size) of the pairs of N points, and a mask of the pairs that have them.

    A network of points sees them beside the distance of a pair. Pairs beyond the length of an item
    are ignored, whatever their values.

    >>> Pairs(1).pairs(jnp.array([[[[2.0], [jnp.nan]]]]), float).tolist()
    [[[[2.0, 1.0], [0.0, 0.0]]]]
    """

    size: int
    name: str = "pairs"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("pairs",)
    droppable: ClassVar[bool] = True

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (*x[:2], x[1], self.size)

    def missing(self, x: Float[Array, "b n c"]) -> Float[Array, "b n n f"]:
        return absent(*x.shape[:2], x.shape[1], self.size)

    def pairs(self, value: Float[Array, "b n n f"], dtype: Any) -> Float[Array, "b n n g"]:
        known, there = present(value, dtype)
        return jnp.concatenate([known, there.all(-1, keepdims=True).astype(dtype)], -1)
