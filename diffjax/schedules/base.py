"""The base classes of noise schedules."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.arrays import float64

Times = Float[Array, "*b"]
LogSNR = Float[Array, "*b"]
POINTS = 6
"""Number of nodes of the quadrature in `to_end`, which is exact to float64 over `NEAR`."""
NEAR = 1 / 16
"""Distance from t = 1 below which l(t) - l(1) loses digits as a difference."""


class Schedule(abc.ABC):
    """A decreasing, differentiable function t -> l on [0, 1], with its inverse.

    Schedules are frozen dataclasses: those with equal settings compare equal and are hashable.

    >>> from diffjax.schedules import Cosine, Logit
    >>> Cosine() == Cosine(s=0.008)
    True
    >>> l = Logit()(jnp.array([0.25, 0.5]))
    >>> print(l.round(3), Logit().inverse(l).round(3))
    [2.197 0.   ] [0.25 0.5 ]
    """

    @abc.abstractmethod
    def __call__(self, t: Times) -> LogSNR:
        """Return the log-SNR at time t in [0, 1], in the shape of t."""

    @abc.abstractmethod
    def inverse(self, l: LogSNR) -> Times:
        """Return the time at log-SNR l; `inverse(self(t)) == t` on (0, 1)."""

    def to_end(self, t: Times) -> LogSNR:
        """Return l(t) - l(1) for a finite l(1), without cancellation near t = 1.

        There both are nearly equal, so the difference is computed as the integral of -l' by
        Gauss-Legendre quadrature; a schedule that is not smooth overrides this. The derivative is
        that of l.
        """
        direct = self(t) - float(float64(self)(1.0))
        nodes, weights = np.polynomial.legendre.leggauss(POINTS)
        share = jnp.asarray((1 + nodes) / 2, t.dtype).reshape((1,) * t.ndim + (POINTS,))
        between = t[..., None] + (1 - t[..., None]) * share
        slope = jax.jvp(self, (between,), (jnp.ones_like(between),))[1]
        integral = -(1 - t) * (slope @ jnp.asarray(weights / 2, t.dtype))
        value = jnp.where(1 - t < NEAR, integral, direct)
        return direct + jax.lax.stop_gradient(value - direct)

    @property
    def steps(self) -> int:
        """The number of steps of the underlying discrete process; 1000 where there is none."""
        return 1000

    @property
    def first(self) -> float:
        """The time of the lowest noise level in training: 1 / T for a table of T levels, else 0."""
        return 0.0

    def init(self) -> dict[str, Any]:
        """Return the initial parameters, which are trained with the network; most have none."""
        return {}

    def bind(self, params: Mapping[str, Any]) -> Schedule:
        """Return the schedule with these parameters; itself where it has none."""
        return self

    def variance(
        self, t: Times, loss: Float[Array, " b"], factor: Float[Array, " b"]
    ) -> Float[Array, ""]:
        """Return a term of value 0 whose gradient trains the schedule for a low-variance loss.

        loss: (B,) at times t (B,); its variance is that over uniform t. factor: (B,), 1 / density
        of t where t was drawn from another distribution.
        """
        return (0 * loss).sum()


def ordered(schedule: Schedule, low: str, high: str, equal: bool = False) -> None:
    """Raise ValueError unless 0 < low < high (or <= where `equal`), both finite."""
    a, b = getattr(schedule, low), getattr(schedule, high)
    if not (0 < a <= b if equal else 0 < a < b) or not math.isfinite(b):
        raise ValueError(f"{schedule}: needs 0 < {low} {'<=' if equal else '<'} {high} < inf")


@dataclass(frozen=True)
class Derived(Schedule):
    """A schedule that is derived from another one, with the same number of discrete steps.

    Raises ValueError for a learned schedule.
    """

    schedule: Schedule

    def __post_init__(self):
        checks.instance(Schedule, "diffjax.schedules.Linear()", schedule=self.schedule)
        if self.schedule.init():
            raise ValueError(f"{self}: a learned schedule cannot be part of another schedule")

    @property
    def steps(self) -> int:
        return self.schedule.steps

    @property
    def first(self) -> float:
        return self.schedule.first
