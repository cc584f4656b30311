"""The second time of a flow map: the noise label of the time to which the prediction leads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Features, Vector, absent, place


@dataclass(frozen=True)
class To:
    """The noise label c_noise(s) (B,) of the time s that a flow map leads to; missing means s = t.

    It enters by the features f of noise labels: g(f(c_noise(s)) - f(c_noise(t))), where g is two
    layers without biases, the last of which starts at zero. So s = t adds exactly zero, whatever
    was learned, and the network is the ordinary denoiser there.

    scale: a factor > 0 on both labels here. Rules of flow maps differentiate the network in s, and
    the derivatives of the features are as large as their highest frequency: for the labels `time`,
    which reach 1,000, 0.02 makes maps smooth in s. Raises ValueError for another name or size, and
    for another scale.

    >>> To().missing(jnp.zeros((2, 3))).tolist()
    [nan, nan]
    """

    size: int = 1
    name: str = "to"
    mechanism: str = ""
    scale: float = 1.0
    mechanisms: ClassVar[tuple[str, ...]] = ("time",)
    droppable: ClassVar[bool] = False

    def __post_init__(self):
        if (self.size, self.name) != (1, "to"):
            raise ValueError(f"condition {self.name!r} of kind to: needs size=1 and the name 'to'")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale={self.scale}: needs 0 < scale < inf")

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0],)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, " b"]:
        return absent(x.shape[0])

    def features(
        self, features: Features, c_noise: Float[Array, " b"], value: Float[Array, " b"]
    ) -> Vector:
        value = jnp.where(jnp.isnan(value), c_noise, value)
        change = features(self.scale * value) - features(self.scale * c_noise)
        # The two terms may be compiled differently. What this leaves at s = t is subtracted, but
        # not its derivative, which flow maps need there.
        same = (value == c_noise)[:, None]
        return change - jax.lax.stop_gradient(jnp.where(same, change, 0))

    def embed(
        self, value: Float[Array, "b n"], width: int, dtype: Any, rows: Initializer
    ) -> Vector:
        """Return the vector (B, width) of a difference of features."""
        h = nn.silu(nn.Dense(width, use_bias=False, name=f"{place(self)}_in")(value))
        last = nn.Dense(
            width, use_bias=False, kernel_init=nn.initializers.zeros, name=f"{place(self)}_out"
        )
        return last(h).astype(dtype)
