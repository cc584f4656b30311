"""Lengths of items that are padded to one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from diffjax.arrays import within_length


@dataclass(frozen=True)
class Length:
    """Unsigned integers (B,) in [1, size]: the positions of the first axis that belong to an item.

    size: positions of the padded items, which is the length where none is given. The network sees 0
    in the padding, whatever its values, and a channel that is 1 in the item and 0 in the padding. A
    transformer attends to the item alone, so its output there does not depend on the amount of
    padding, nor does that of a U-Net of videos, whose frames meet in attention alone. The output of
    other U-Nets does, through their norms and convolutions. A length is never missing, so neither
    dropout nor guidance removes it.

    >>> Length(3).inside(jnp.array([1, 3], jnp.uint32), rank=2).tolist()
    [[True, False, False], [True, True, True]]
    """

    size: int
    name: str = "length"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("beside",)
    droppable: ClassVar[bool] = False

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        if x[1] != self.size:
            raise ValueError(f"condition {self.name!r} has the size {self.size}, the items {x[1:]}")
        return (x[0],)

    def missing(self, x: Float[Array, "b *d"]) -> UInt32[Array, " b"]:
        return jnp.full(x.shape[0], self.size, jnp.uint32)

    def inside(self, value: UInt32[Array, " b"], rank: int) -> Bool[Array, "b *d"]:
        """Return the mask of positions inside their item, (B, size, 1, ...), with `rank` axes."""
        return within_length(value, self.size, rank)

    def cut(self, x: Float[Array, "b *d"], value: UInt32[Array, " b"]) -> Float[Array, "b *d"]:
        """Return x with 0 in the padding, also where x is not finite there."""
        return jnp.where(self.inside(value, x.ndim), x, 0)

    def beside(self, value: UInt32[Array, " b"], dtype: Any) -> Float[Array, "b l 1"]:
        """Return 1 in the item and 0 in the padding, for all places of a position alike."""
        return self.inside(value, 3).astype(dtype)
