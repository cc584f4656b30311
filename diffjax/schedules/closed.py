"""Schedules in closed form, defined by their log-SNR."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffjax.schedules.base import LogSNR, Schedule, Times, ordered


@dataclass(frozen=True)
class Cosine(Schedule):
    """The cosine schedule: alpha^2 = cos^2(a) / cos^2(a_0) in VP, a = (t + s) / (1 + s) pi / 2.

    l is infinite at both ends, and written with the sines of the distances to them, so that float32
    keeps its digits there. s = 0 is the clean form l = -2 log tan(pi t / 2). Source:
    arXiv:2102.09672, eq. 17. Raises ValueError unless 0 <= s < 1.

    >>> float(Cosine(s=0.0)(jnp.array(0.5)).round(4))  # equal signal and noise in the middle
    0.0
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
class Sigmoid(Schedule):
    """The sigmoid schedule: in VP alpha^2 is a sigmoid from 1 to 0 (arXiv:2212.11972, Alg. 1).

    alpha^2 = (S(end / tau) - S(u)) / (S(end / tau) - S(start / tau)), where u is linear in t from
    start / tau to end / tau. A difference of sigmoids is the sinh of half the difference of their
    arguments over the cosh of half of each, so l is computed without cancellation; it is infinite
    at both ends. Raises ValueError unless start < end, tau > 0 and (end - start) / tau < 160.

    >>> [round(float(Sigmoid()(jnp.array(t))), 2) for t in (0.25, 0.5)]
    [1.74, 0.0]
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self):
        if not (0 < self.tau < math.inf and self.start < self.end and self._half < 80):
            raise ValueError(f"{self}: needs start < end, tau > 0 and (end - start) / tau < 160")

    @property
    def _half(self) -> float:
        return (self.end - self.start) / self.tau / 2

    @property
    def _offset(self) -> float:
        log_cosh = lambda x: abs(x) + math.log1p(math.exp(-2 * abs(x)))
        return log_cosh(self.start / self.tau / 2) - log_cosh(self.end / self.tau / 2)

    def __call__(self, t: Times) -> LogSNR:
        log_sinh = lambda x: x + jnp.log(-jnp.expm1(-2 * x))
        return log_sinh(self._half * (1 - t)) - log_sinh(self._half * t) + self._offset

    def inverse(self, l: LogSNR) -> Times:
        # With r = sinh(w (1 - t)) / sinh(w t): exp(2 w t) = (r + exp(w)) / (r + exp(-w)).
        r, w = jnp.exp(l - self._offset), self._half
        return jnp.log1p(2 * math.sinh(w) / (r + math.exp(-w))) / (2 * w)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """The polynomial schedule: alpha = 1 - t^power in VP, 0 < power <= 4.

    Source: arXiv:2203.17003, app. B, with power = 2. Raises ValueError for another power.

    >>> [round(float(Polynomial()(jnp.array(t))), 2) for t in (0.25, 0.5)]
    [1.98, 0.25]
    """

    power: float = 2.0

    def __post_init__(self):
        if not 0 < self.power <= 4:
            raise ValueError(f"{self}: needs 0 < power <= 4")

    def __call__(self, t: Times) -> LogSNR:
        log_u = self.power * jnp.log(t)
        alpha = -jnp.expm1(log_u)
        return 2 * jnp.log(alpha) - log_u - jnp.log1p(alpha)

    def inverse(self, l: LogSNR) -> Times:
        log_u = jax.nn.log_sigmoid(-l) - jnp.log1p(jnp.exp(jax.nn.log_sigmoid(l) / 2))
        return jnp.exp(log_u / self.power)


@dataclass(frozen=True)
class Laplace(Schedule):
    """The Laplace schedule: under uniform t the log-SNR has a Laplace distribution.

    mean: finite. scale: > 0, in units of log-SNR (arXiv:2407.03297, tab. 1). Raises ValueError for
    other settings.

    >>> [round(float(Laplace()(jnp.array(t))), 2) for t in (0.25, 0.5)]
    [0.35, 0.0]
    """

    mean: float = 0.0
    scale: float = 0.5

    def __post_init__(self):
        if not (0 < self.scale < math.inf and math.isfinite(self.mean)):
            raise ValueError(f"{self}: needs a finite mean and 0 < scale < inf")

    def __call__(self, t: Times) -> LogSNR:
        from_end = jnp.log(2 * jnp.where(t < 0.5, t, 1 - t))
        return self.mean - jnp.where(t < 0.5, self.scale, -self.scale) * from_end

    def inverse(self, l: LogSNR) -> Times:
        tail = jnp.exp(-jnp.abs(l - self.mean) / self.scale) / 2
        return jnp.where(l > self.mean, tail, 1 - tail)


@dataclass(frozen=True)
class Logit(Schedule):
    """The schedule of rectified flow, l = 2 log((1 - t) / t) (arXiv:2209.03003).

    In the frame `Flow` it means alpha = 1 - t and sigma = t.

    >>> print(Logit()(jnp.array([0.25, 0.5])).round(2))  # 2 log 3 and 0
    [2.2 0. ]
    """

    def __call__(self, t: Times) -> LogSNR:
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def inverse(self, l: LogSNR) -> Times:
        return jax.nn.sigmoid(-l / 2)


@dataclass(frozen=True)
class Geometric(Schedule):
    """The geometric schedule: sigma = sigma_min (sigma_max / sigma_min)^t in VE, so l is linear.

    Source: arXiv:2011.13456, eq. 31. Raises ValueError unless 0 < sigma_min < sigma_max < inf.

    >>> [round(float(Geometric(0.01, 100.0)(jnp.array(t))), 2) for t in (0.25, 0.75)]
    [4.61, -4.61]
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        ordered(self, "sigma_min", "sigma_max")

    @property
    def _logs(self) -> tuple[float, float]:
        return math.log(self.sigma_min), math.log(self.sigma_max)

    def __call__(self, t: Times) -> LogSNR:
        low, high = self._logs
        return -2 * (low + (high - low) * t)

    def inverse(self, l: LogSNR) -> Times:
        low, high = self._logs
        return (-l / 2 - low) / (high - low)


@dataclass(frozen=True)
class Karras(Schedule):
    """The schedule with sigma^(1 / rho) linear in t, from sigma_min to sigma_max in VE.

    Source: arXiv:2206.00364, eq. 5. Raises ValueError unless 0 < sigma_min < sigma_max < inf and
    0 < rho < inf.

    >>> print(jnp.exp(-Karras()(jnp.array([0.5, 1.0])) / 2).round(2))  # sigma
    [ 2.52 80.  ]
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self):
        ordered(self, "sigma_min", "sigma_max")
        if not 0 < self.rho < math.inf:
            raise ValueError(f"{self}: needs 0 < rho < inf")

    @property
    def _roots(self) -> tuple[float, float]:
        low = self.sigma_min ** (1 / self.rho)
        return low, self.sigma_max ** (1 / self.rho) - low

    def __call__(self, t: Times) -> LogSNR:
        low, width = self._roots
        return -2 * self.rho * jnp.log(low + width * t)

    def inverse(self, l: LogSNR) -> Times:
        low, width = self._roots
        return (jnp.exp(-l / (2 * self.rho)) - low) / width


@dataclass(frozen=True)
class Edm(Schedule):
    """EDM's schedule: sigma = sigma_max t in VE, 0 < sigma_max < inf (arXiv:2206.00364, tab. 1).

    Raises ValueError for another sigma_max.

    >>> print(jnp.exp(-Edm()(jnp.array([0.5, 1.0])) / 2).round(2))  # sigma
    [40. 80.]
    """

    sigma_max: float = 80.0

    def __post_init__(self):
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"{self}: needs 0 < sigma_max < inf")

    def __call__(self, t: Times) -> LogSNR:
        return -2 * jnp.log(self.sigma_max * t)

    def inverse(self, l: LogSNR) -> Times:
        return jnp.exp(-l / 2) / self.sigma_max
