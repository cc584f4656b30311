"""Thresholds: functions x0 (B, ...) -> x0 that act per sample (arXiv:2205.11487, sec. 2.3)."""

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
    """The interface of a threshold: a frozen dataclass of settings, static under `jit`."""

    def __call__(self, x0: Sample) -> Sample: ...


@dataclass(frozen=True)
class Static:
    """Static thresholding: clip x0 to [-bound, bound].

    Raises ValueError unless bound > 0.

    >>> Static()(jnp.array([[0.5, -3.0]])).tolist()
    [[0.5, -1.0]]
    """

    bound: float = 1.0

    def __post_init__(self):
        positive(bound=self.bound)

    def __call__(self, x0: Sample) -> Sample:
        return jnp.clip(x0, -self.bound, self.bound)


@dataclass(frozen=True)
class Dynamic:
    """Dynamic thresholding: clip x0 to a quantile of the sample and scale it to [-bound, bound].

    The result is clip(x0, -s, s) bound / s, where s is the quantile `share` of |x0| of the sample,
    but at least `bound`, so samples within the bound are unchanged. Raises ValueError unless 0 <
    share <= 1 and bound > 0.

    >>> print(Dynamic(share=1.0)(jnp.array([[0.5, -2.0], [0.5, -1.0]])))
    [[ 0.25 -1.  ]
     [ 0.5  -1.  ]]
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
