"""Exponential moving averages of the parameters: `step -> decay`, applied once per step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from diffjax.arrays import Params, catalogue

Decay = Callable[[Int[Array, ""]], Float[Array, ""]]


@dataclass(frozen=True)
class Constant:
    """decay, reached through the warm-up (1 + t) / (10 + t), so that early steps are forgotten."""

    decay: float = 0.9999

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay}: needs 0 <= decay < 1")

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.minimum(self.decay, (1.0 + step) / (10.0 + step))


@dataclass(frozen=True)
class Power:
    """(1 - 1/t)^(gamma + 1): a profile whose width is `std` times the training so far.

    arXiv:2312.02696, eq. 3 and 123: std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """

    std: float = 0.1

    def __post_init__(self):
        if not 0 < self.std < 12**-0.5:
            raise ValueError(f"std={self.std}: needs 0 < std < 0.2887 (that of a flat average)")

    @property
    def gamma(self) -> float:
        inverse = self.std**-2
        roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
        return float(roots[np.isreal(roots)].real.max())

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        return (1 - 1 / (1.0 + step)) ** (self.gamma + 1)


def update(ema: Params, params: Params, decay: Float[Array, ""]) -> Params:
    """decay ema + (1 - decay) params."""
    return cast(Params, optax.incremental_update(params, ema, 1 - decay))


EMAS = catalogue(Constant, Power)
