"""Sequences of any length, such as the output of a text encoder: floats (L, size)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Sequence, absent, after_null, place, present
from diffjax.nets.positions import waved


@dataclass(frozen=True)
class Tokens:
    """Tokens (B, L, size) that the network attends to; each token may be missing.

    layers: number of layers between the tokens and the network: 0, 1, or 2 with GELU
    (arXiv:2310.00426). waves: frequencies of `waved`, which adds sines and cosines of the values,
    as of the coordinates of points; it needs layers >= 1. null: whether a learned token comes
    first, which is always present; without it the attention of a sample without tokens is zero.
    Raises ValueError for other numbers of layers and of waves.

    >>> Tokens(768, "caption").shape((4, 32, 32, 3))
    (4, None, 768)
    """

    size: int
    name: str = "tokens"
    mechanism: str = ""
    layers: int = 1
    waves: int = 0
    null: bool = True
    mechanisms: ClassVar[tuple[str, ...]] = ("joint", "cross")
    droppable: ClassVar[bool] = True

    def __post_init__(self):
        if self.layers not in (0, 1, 2):
            raise ValueError(
                f"condition {self.name!r}: layers={self.layers}: unknown; known: 0, 1, 2"
            )
        if self.waves < 0 or (self.waves and not self.layers):
            raise ValueError(
                f"condition {self.name!r}: waves={self.waves}: needs 0, or more with layers >= 1"
            )

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0], None, self.size)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, "b l n"]:
        return absent(x.shape[0], 0, self.size)

    def sequence(self, value: Float[Array, "b l n"], width: int, dtype: Any) -> Sequence:
        tokens, there = present(value, dtype)
        if self.layers:
            tokens = nn.Dense(width, name=place(self))(waved(tokens, self.waves))
        if self.layers == 2:
            tokens = nn.Dense(width, name=f"{place(self)}_out")(nn.gelu(tokens))
        return after_null(place(self), tokens, there.all(-1), null=self.null)
