"""Noise schedules: decreasing functions t -> l, the log-SNR log(alpha^2 / sigma^2), on [0, 1].

A schedule says how much noise there is at time t, not how signal and noise are scaled: that is the
frame's part (`sde.py`). l may be infinite at the ends; a frame that cannot live with it refuses.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import catalogue

Times = Float[Array, "*b"]
LogSNR = Float[Array, "*b"]


class Schedule(abc.ABC):
    """A decreasing, differentiable function t -> l with its inverse; equal settings are equal."""

    @abc.abstractmethod
    def __call__(self, t: Times) -> LogSNR:
        """Log-SNR at time t in [0, 1]."""

    @abc.abstractmethod
    def inverse(self, l: LogSNR) -> Times:
        """Time at log-SNR l; `inverse(self(t)) == t` on (0, 1)."""


@dataclass(frozen=True)
class Linear(Schedule):
    """beta(t) = beta_min + (beta_max - beta_min) t (arXiv:2011.13456, eq. 32; DDPM's in the limit).

    alpha^2 = exp(-B), sigma^2 = 1 - exp(-B) in VP, with B the integral of beta, so
    l = -log(exp(B) - 1): infinite at t = 0, finite at t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"{self}: needs 0 < beta_min <= beta_max")

    def __call__(self, t: Times) -> LogSNR:
        b = self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2
        return -b - jnp.log(-jnp.expm1(-b))

    def inverse(self, l: LogSNR) -> Times:
        b = jax.nn.softplus(-l)
        slope = self.beta_max - self.beta_min
        return 2 * b / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * b))


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha^2 = cos^2(a) / cos^2(a_0), a = (t + s) / (1 + s) pi/2 in VP (arXiv:2102.09672, eq. 17).

    Written with sines of the distances to both ends, so that float32 keeps its digits there; l is
    infinite at both. `s=0` is the clean form l = -2 log tan(pi t / 2).
    """

    s: float = 0.008

    def __post_init__(self):
        if not 0 <= self.s < 1:
            raise ValueError(f"{self}: needs 0 <= s < 1")

    def __call__(self, t: Times) -> LogSNR:
        unit = jnp.pi / 2 / (1 + self.s)
        signal = 2 * jnp.log(jnp.sin(unit * (1 - t)))
        return signal - jnp.log(jnp.sin(unit * t)) - jnp.log(jnp.sin(unit * (t + 2 * self.s)))

    def inverse(self, l: LogSNR) -> Times:
        unit = jnp.pi / 2 / (1 + self.s)
        cos0, sin0 = jnp.cos(unit * self.s), jnp.sin(unit * self.s)
        alpha2, sigma2 = jax.nn.sigmoid(l), jax.nn.sigmoid(-l)
        angle = jnp.arctan2(jnp.sqrt(sin0**2 + sigma2 * cos0**2), jnp.sqrt(alpha2) * cos0)
        near_data = jnp.arcsin(jnp.minimum(sigma2 * cos0**2 / jnp.sin(angle + unit * self.s), 1.0))
        near_noise = jnp.arcsin(jnp.sqrt(alpha2) * cos0)
        return jnp.where(l > 0, near_data / unit, 1 - near_noise / unit)


@dataclass(frozen=True)
class Geometric(Schedule):
    """sigma = sigma_min (sigma_max / sigma_min)^t in VE (arXiv:2011.13456, eq. 31): l is linear."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"{self}: needs 0 < sigma_min < sigma_max")

    @property
    def _logs(self) -> tuple[float, float]:
        return math.log(self.sigma_min), math.log(self.sigma_max)

    def __call__(self, t: Times) -> LogSNR:
        low, high = self._logs
        return -2 * (low + (high - low) * t)

    def inverse(self, l: LogSNR) -> Times:
        low, high = self._logs
        return (-l / 2 - low) / (high - low)


SCHEDULES = catalogue(Linear, Cosine, Geometric)
