"""Items of stills: videos whose frames have nothing to do with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@dataclass(frozen=True)
class Still:
    """Integers (B,): 1 for an item of stills, 0 for a video, -1 where it is missing, a video.

    The network computes an item of T stills as T videos of one frame, so images train a network of
    videos (arXiv:2204.03458). Nothing is learned for it, and neither dropout nor guidance removes
    it. size: 2, the number of values.

    >>> Still(2).apart(jnp.array([0, 1, -1])).tolist()
    [False, True, False]
    """

    size: int = 2
    name: str = "still"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("apart",)
    droppable: ClassVar[bool] = False

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0],)

    def missing(self, x: Float[Array, "b *d"]) -> Int[Array, " b"]:
        return jnp.full(x.shape[0], -1, jnp.int32)

    def apart(self, value: Int[Array, " b"]) -> Bool[Array, " b"]:
        return value == 1
