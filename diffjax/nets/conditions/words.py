"""Words of a closed vocabulary, such as those of captions: integers (L,) in [0, size)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from diffjax.checks import known_label
from diffjax.nets.conditions.base import Sequence, after_null, place
from diffjax.nets.positions import sincos


@dataclass(frozen=True)
class Words:
    """Words (B, L) that the network attends to; each word may be missing, -1.

    A learned vector stands for each of `size` words, and sines and cosines are added for its place.
    The table is multiplied by the root of the width (arXiv:1706.03762, sec. 3.4), so that words
    begin with unit variance, which the place does not drown, and still move at the rates of Adam.
    null: whether a learned token comes first, which is always present; without it the attention of
    a sample without words is zero. In a compiled program a word out of range results in NaN.

    >>> Words(1000, "text").shape((4, 32, 32, 3))
    (4, None)
    """

    size: int
    name: str = "words"
    mechanism: str = ""
    null: bool = True
    mechanisms: ClassVar[tuple[str, ...]] = ("joint", "cross")
    droppable: ClassVar[bool] = True

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0], None)

    def missing(self, x: Float[Array, "b *d"]) -> Int[Array, "b l"]:
        return jnp.full((x.shape[0], 0), -1, jnp.int32)

    def sequence(self, value: Int[Array, "b l"], width: int, dtype: Any) -> Sequence:
        rows = nn.initializers.normal(width**-0.5)
        table = nn.Embed(self.size, width, embedding_init=rows, name=place(self))
        known = known_label(value, self.size)
        words = table(jnp.where(known, jnp.maximum(value, 0), self.size)) * width**0.5
        words = words.astype(dtype) + sincos((value.shape[1],), width).astype(dtype)[None]
        return after_null(place(self), words, value != -1, null=self.null)
