"""The weight of guidance that a network has learned, so that sampling takes one pass per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Vector, absent, place
from diffjax.nets.conditions.vector import waves

RATES = (0.25, 0.5, 1.0, 2.0)
"""Frequencies of the sines and cosines of a weight."""


@dataclass(frozen=True)
class Guidance:
    """The weight w (B,) of distilled guidance (arXiv:2210.03142); missing means 1, no guidance.

    It enters by features f(w) with f(1) = 0, and two layers without biases, the last of which
    starts at zero. So w = 1 adds exactly zero, whatever was learned, and a new network is its
    teacher at every weight. waves: w enters by 256 cosines and sines of 1,000 w and two layers
    with biases instead, as in Flux.1. Raises ValueError for another name or size.

    >>> Guidance().missing(jnp.zeros((2, 3))).tolist()
    [nan, nan]
    """

    size: int = 1
    name: str = "guidance"
    mechanism: str = ""
    waves: bool = False
    mechanisms: ClassVar[tuple[str, ...]] = ("embedding",)
    droppable: ClassVar[bool] = False

    def __post_init__(self):
        if (self.size, self.name) != (1, "guidance"):
            raise ValueError(
                f"condition {self.name!r} of kind guidance: needs size=1 and the name 'guidance'"
            )

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0],)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, " b"]:
        return absent(x.shape[0])

    def embed(self, value: Float[Array, " b"], width: int, dtype: Any, rows: Initializer) -> Vector:
        if self.waves:
            h = waves(1000 * jnp.where(jnp.isnan(value), 1.0, value)[:, None])
            h = nn.Dense(width, name=f"{place(self)}_in")(h)
            return nn.Dense(width, name=f"{place(self)}_out")(nn.silu(h)).astype(dtype)
        beyond = jnp.where(jnp.isnan(value), 0.0, value - 1)[:, None]
        angles = beyond * jnp.asarray(RATES)[None]
        features = jnp.concatenate([beyond, jnp.sin(angles), jnp.cos(angles) - 1], 1)
        h = nn.silu(nn.Dense(width, use_bias=False, name=f"{place(self)}_in")(features))
        last = nn.Dense(
            width, use_bias=False, kernel_init=nn.initializers.zeros, name=f"{place(self)}_out"
        )
        return last(h).astype(dtype)
