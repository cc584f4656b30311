"""Thresholds: x0 (B, ...) to x0, each sample on its own (arXiv:2205.11487, sec. 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from diffjax.arrays import dims, expand
from diffjax.checks import positive, within
from diffjax.prediction import Sample


@runtime_checkable
@runtime_checkable
class Threshold(Protocol):
    """Static: a frozen dataclass of settings."""

    def __call__(self, x0: Sample) -> Sample: ...


@dataclass(frozen=True)
class Static:
    """Clip x0 to [-bound, bound]. Raises ValueError unless bound > 0."""

    bound: float = 1.0

    def __post_init__(self):
        positive(bound=self.bound)

    def __call__(self, x0: Sample) -> Sample:
        return jnp.clip(x0, -self.bound, self.bound)


@dataclass(frozen=True)
class Dynamic:
    """Clip x0 to its quantile s and scale it to [-bound, bound].

    clip(x0, -s, s) bound / s, where s is the quantile `share` of |x0| of the sample, and at least
    `bound`: a sample within it stays as it is. Raises ValueError unless 0 < share <= 1, bound > 0.
    """

    share: float = 0.995
    bound: float = 1.0

    def __post_init__(self):
        within(0, 1, "(]", share=self.share)
        positive(bound=self.bound)

    def __call__(self, x0: Sample) -> Sample:
        s = jnp.quantile(jnp.abs(x0), self.share, axis=dims(x0))
        s = expand(jnp.maximum(s, self.bound), x0)
        return jnp.clip(x0, -s, s) * (self.bound / s)
