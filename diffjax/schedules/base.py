"""What a noise schedule is."""

from __future__ import annotations

import abc
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
"""Of the quadrature in `to_end`, which is exact to float64 over `NEAR`."""
NEAR = 1 / 16
"""Distance from t = 1 below which l(t) - l(1) loses digits as a difference."""


class Schedule(abc.ABC):
    """A decreasing, differentiable function t -> l with its inverse; equal settings are equal."""

    @abc.abstractmethod
    def __call__(self, t: Times) -> LogSNR:
        """Log-SNR at time t in [0, 1]."""

    @abc.abstractmethod
    def inverse(self, l: LogSNR) -> Times:
        """Time at log-SNR l; `inverse(self(t)) == t` on (0, 1)."""

    def to_end(self, t: Times) -> LogSNR:
        """l(t) - l(1) for a finite l(1), with all digits near t = 1, where both are nearly equal.

        There it is the integral of -l', by Gauss and Legendre; a schedule that is not smooth gives
        it otherwise. The derivative is that of l.
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
        """Steps of the discrete process that [0, 1] stands for; 1000 where there is none."""
        return 1000

    @property
    def first(self) -> float:
        """Time of the lowest noise level that the process was trained at: 1 / T for a table of T
        levels, 0 otherwise."""
        return 0.0

    def init(self) -> dict[str, Any]:
        """Parameters that are trained with the network; most schedules have none."""
        return {}

    def bind(self, params: Mapping[str, Any]) -> Schedule:
        """The schedule that has these parameters; itself where it has none."""
        return self

    def variance(
        self, t: Times, loss: Float[Array, " b"], factor: Float[Array, " b"]
    ) -> Float[Array, ""]:
        """A term of value 0 that trains a schedule for a small variance of `loss` over uniform t.

        factor: 1 / density of t where it was drawn otherwise.
        """
        return (0 * loss).sum()


@dataclass(frozen=True)
class Derived(Schedule):
    """A schedule made of another one, whose steps it has."""

    schedule: Schedule

    def __post_init__(self):
        checks.instance(Schedule, "diffjax.schedules.Linear()", schedule=self.schedule)
        if self.schedule.init():
            raise ValueError(f"{self}: a learned schedule cannot be a part of another one")

    @property
    def steps(self) -> int:
        return self.schedule.steps

    @property
    def first(self) -> float:
        return self.schedule.first
