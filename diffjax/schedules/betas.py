"""Schedules that are defined by beta(t) of the VP process, in closed form."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffjax.schedules.base import LogSNR, Schedule, Times, ordered


class Betas(Schedule):
    """A schedule defined by beta(t) of the VP process: alpha^2 = exp(-B), sigma^2 = 1 - exp(-B).

    B(t) is the integral of beta from 0 to t. l = -log(exp(B) - 1) is infinite at t = 0 and finite
    at t = 1.
    """

    @abc.abstractmethod
    def integral(self, t: Times) -> Times:
        """Return B(t)."""

    @abc.abstractmethod
    def integral_inverse(self, b: Times) -> Times:
        """Return the t with B(t) = b."""

    def __call__(self, t: Times) -> LogSNR:
        b = self.integral(t)
        return -b - jnp.log(-jnp.expm1(-b))

    def inverse(self, l: LogSNR) -> Times:
        return self.integral_inverse(jax.nn.softplus(-l))


@dataclass(frozen=True)
class Linear(Betas):
    """The linear schedule: beta = beta_min + (beta_max - beta_min) t (arXiv:2011.13456, eq. 32).

    It is the continuous limit of DDPM's table. Raises ValueError unless 0 < beta_min <= beta_max <
    inf.

    >>> linear = Linear()
    >>> l = linear(jnp.array([0.1, 0.5, 1.0]))
    >>> [round(float(each), 2) for each in l]
    [2.16, -2.46, -10.05]
    >>> [round(float(each), 4) for each in linear.inverse(l)]
    [0.1, 0.5, 1.0]
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        ordered(self, "beta_min", "beta_max", equal=True)

    def integral(self, t: Times) -> Times:
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2

    def integral_inverse(self, b: Times) -> Times:
        slope = self.beta_max - self.beta_min
        return 2 * b / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * b))


@dataclass(frozen=True)
class ScaledLinear(Betas):
    """The schedule of latent diffusion: sqrt(beta) is linear in t (the code of arXiv:2112.10752).

    beta = (a + (b - a) t)^2 with a^2 = beta_min and b^2 = beta_max. Raises ValueError unless 0 <
    beta_min <= beta_max < inf.

    >>> [round(float(ScaledLinear()(jnp.array(t))), 2) for t in (0.25, 1.0)]
    [0.73, -5.34]
    """

    beta_min: float = 0.85
    beta_max: float = 12.0

    def __post_init__(self):
        ordered(self, "beta_min", "beta_max", equal=True)

    @property
    def _roots(self) -> tuple[float, float]:
        return math.sqrt(self.beta_min), math.sqrt(self.beta_max) - math.sqrt(self.beta_min)

    def integral(self, t: Times) -> Times:
        a, d = self._roots
        return t * (a * a + d * t * (a + d * t / 3))

    def integral_inverse(self, b: Times) -> Times:
        a, d = self._roots
        y = jnp.cbrt(a**3 + 3 * d * b)
        return 3 * b / (y * y + y * a + a * a)


@dataclass(frozen=True)
class Quadratic(Betas):
    """The schedule with quadratic beta = beta_min + (beta_max - beta_min) t^2.

    Raises ValueError unless 0 < beta_min <= beta_max < inf.

    >>> [round(float(Quadratic()(jnp.array(t))), 2) for t in (0.25, 1.0)]
    [1.99, -6.73]
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        ordered(self, "beta_min", "beta_max", equal=True)

    def integral(self, t: Times) -> Times:
        return t * (self.beta_min + (self.beta_max - self.beta_min) * t * t / 3)

    def integral_inverse(self, b: Times) -> Times:
        # The only real root of d t^3 / 3 + beta_min t = b, by the triple-angle formula of sinh.
        d = self.beta_max - self.beta_min
        if d == 0:
            return b / self.beta_min
        unit = 2 * math.sqrt(self.beta_min / d)
        return unit * jnp.sinh(jnp.arcsinh(3 * b / (self.beta_min * unit)) / 3)


@dataclass(frozen=True)
class Exponential(Betas):
    """The schedule with constant beta: alpha^2 = exp(-rate t) in VP, 0 < rate < inf.

    Raises ValueError for another rate.

    >>> [round(float(Exponential(rate=8.0)(jnp.array(t))), 2) for t in (0.25, 1.0)]
    [-1.85, -8.0]
    """

    rate: float = 12.0

    def __post_init__(self):
        if not 0 < self.rate < math.inf:
            raise ValueError(f"{self}: needs 0 < rate < inf")

    def integral(self, t: Times) -> Times:
        return self.rate * t

    def integral_inverse(self, b: Times) -> Times:
        return b / self.rate
