"""Schedules in closed form."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffjax.schedules.base import LogSNR, Schedule, Times


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


def _ordered(schedule: Schedule, low: str, high: str, equal: bool = False) -> None:
    """Raise ValueError unless 0 < low < high (or <= where `equal`), both finite."""
    a, b = getattr(schedule, low), getattr(schedule, high)
    if not (0 < a <= b if equal else 0 < a < b) or not math.isfinite(b):
        raise ValueError(f"{schedule}: needs 0 < {low} {'<=' if equal else '<'} {high} < inf")


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
        _ordered(self, "beta_min", "beta_max", equal=True)

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
    """

    beta_min: float = 0.85
    beta_max: float = 12.0

    def __post_init__(self):
        _ordered(self, "beta_min", "beta_max", equal=True)

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
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        _ordered(self, "beta_min", "beta_max", equal=True)

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
    """The schedule with constant beta: alpha^2 = exp(-rate t) in VP, 0 < rate < inf."""

    rate: float = 12.0

    def __post_init__(self):
        if not 0 < self.rate < math.inf:
            raise ValueError(f"{self}: needs 0 < rate < inf")

    def integral(self, t: Times) -> Times:
        return self.rate * t

    def integral_inverse(self, b: Times) -> Times:
        return b / self.rate


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

    Source: arXiv:2203.17003, app. B, with power = 2.
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

    mean: finite. scale: > 0, in units of log-SNR (arXiv:2407.03297, tab. 1).
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
    """

    def __call__(self, t: Times) -> LogSNR:
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def inverse(self, l: LogSNR) -> Times:
        return jax.nn.sigmoid(-l / 2)


@dataclass(frozen=True)
class Geometric(Schedule):
    """The geometric schedule: sigma = sigma_min (sigma_max / sigma_min)^t in VE, so l is linear.

    Source: arXiv:2011.13456, eq. 31. Raises ValueError unless 0 < sigma_min < sigma_max < inf.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        _ordered(self, "sigma_min", "sigma_max")

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
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self):
        _ordered(self, "sigma_min", "sigma_max")
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
    """EDM's schedule: sigma = sigma_max t in VE, 0 < sigma_max < inf (arXiv:2206.00364, tab. 1)."""

    sigma_max: float = 80.0

    def __post_init__(self):
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"{self}: needs 0 < sigma_max < inf")

    def __call__(self, t: Times) -> LogSNR:
        return -2 * jnp.log(self.sigma_max * t)

    def inverse(self, l: LogSNR) -> Times:
        return jnp.exp(-l / 2) / self.sigma_max
