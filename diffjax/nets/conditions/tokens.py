"""Sequences of any length, such as the output of a text encoder: floats (L, size)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Sequence, absent, after_null, place, present


@dataclass(frozen=True)
class Tokens:
    """Tokens (B, L, size) that the network attends to; each token may be missing.

    layers: number of layers between the tokens and the network: 0, 1, or 2 with GELU
    (arXiv:2310.00426). null: whether a learned token comes first, which is always present; without
    it the attention of a sample without tokens is zero. Raises ValueError for another number of
    layers.

    >>> Tokens(768, "caption").shape((4, 32, 32, 3))
    (4, None, 768)
    """

    size: int
    name: str = "tokens"
    mechanism: str = ""
    layers: int = 1
    null: bool = True
    mechanisms: ClassVar[tuple[str, ...]] = ("joint", "cross")
    droppable: ClassVar[bool] = True

    def __post_init__(self):
        if self.layers not in (0, 1, 2):
            raise ValueError(
                f"condition {self.name!r}: layers={self.layers}: unknown; known: 0, 1, 2"
            )

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0], None, self.size)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, "b l n"]:
        return absent(x.shape[0], 0, self.size)

    def sequence(self, value: Float[Array, "b l n"], width: int, dtype: Any) -> Sequence:
        tokens, there = present(value, dtype)
        if self.layers:
            tokens = nn.Dense(width, name=place(self))(tokens)
        if self.layers == 2:
            tokens = nn.Dense(width, name=f"{place(self)}_out")(nn.gelu(tokens))
        return after_null(place(self), tokens, there.all(-1), null=self.null)
