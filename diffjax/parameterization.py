"""What the network is asked for: F = a x0 + b eps, from c_in x and the noise label c_noise.

Both views follow from F = a x0 + b eps and x = alpha x0 + sigma eps without passing through each
other: x0 = (sigma F - b x) / (a sigma - b alpha), eps = (a x - alpha F) / (a sigma - b alpha).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffjax import checks
from diffjax.arrays import catalogue, float64
from diffjax.schedules import Times
from diffjax.sde import SDE, ends

NoiseLabel = Callable[[SDE, Times], Times]


def time(sde: SDE, t: Times) -> Times:
    """1000 t: the step index of the discrete papers, in [0, 1000] (arXiv:2006.11239)."""
    return 1000 * t


def time_999(sde: SDE, t: Times) -> Times:
    """999 t: what score_sde tells its networks in continuous time (arXiv:2011.13456)."""
    return 999 * t


def time_999_reversed(sde: SDE, t: Times) -> Times:
    """999 (1 - t): the index of score_sde's 1,000 noise levels, which begin with the highest."""
    return 999 * (1 - t)


def angle(sde: SDE, t: Times) -> Times:
    """1000 (2 / pi) atan(sigma / alpha), in [0, 1000] at any log-SNR (arXiv:2202.00512)."""
    return 2000 / jnp.pi * jnp.arctan(jnp.exp(-sde.logsnr(t) / 2))


def index(sde: SDE, t: Times) -> Times:
    """T t - 1 for a schedule of T steps: the index k of t = (k + 1) / T, from 0 to T - 1."""
    return sde.schedule.steps * t - 1


def rescaled_index(sde: SDE, t: Times) -> Times:
    """1000 k / T for the index k: of 1,000 steps, however many there are (arXiv:2102.09672)."""
    return 1000 * (t - 1 / sde.schedule.steps)


def t(sde: SDE, t: Times) -> Times:
    """t itself, in [0, 1]."""
    return t


def one_minus_t(sde: SDE, t: Times) -> Times:
    """1 - t: the time of papers whose noise is at 0 and data at 1 (arXiv:2209.03003)."""
    return 1 - t


def half_logsnr(sde: SDE, t: Times) -> Times:
    """logsnr / 2 = log(alpha / sigma), where that is finite."""
    return sde.logsnr(t) / 2


def log_sigma(sde: SDE, t: Times) -> Times:
    """log(sigma / alpha) (arXiv:2011.13456's NCSN++)."""
    return -sde.logsnr(t) / 2


def log_half_sigma(sde: SDE, t: Times) -> Times:
    """log(sigma / (2 alpha)): `log_sigma` for images in [0, 1], where these are in [-1, 1]."""
    return -sde.logsnr(t) / 2 - math.log(2)


def quarter_log_sigma(sde: SDE, t: Times) -> Times:
    """log(sigma / alpha) / 4 (arXiv:2206.00364, tab. 1)."""
    return -sde.logsnr(t) / 8


NOISE_LABELS = catalogue(
    time,
    time_999,
    time_999_reversed,
    index,
    rescaled_index,
    angle,
    t,
    one_minus_t,
    half_logsnr,
    log_sigma,
    log_half_sigma,
    quarter_log_sigma,
)


@dataclass(frozen=True)
class Parameterization(abc.ABC):
    """The network's target and its input scale.

    c_noise: noise label given to the network. sigma_data: standard deviation of the data, for
    c_in = 1 / sqrt(alpha^2 sigma_data^2 + sigma^2), which gives the input unit variance;
    scale_input=False leaves the input as it is (c_in = 1).
    """

    c_noise: NoiseLabel = time
    sigma_data: float = 1.0
    scale_input: bool = True

    def __post_init__(self):
        checks.function("diffjax.parameterization.time", c_noise=self.c_noise)
        checks.number(sigma_data=self.sigma_data)
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data={self.sigma_data}: needs sigma_data > 0, and finite")

    @abc.abstractmethod
    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        """(a, b) of F = a x0 + b eps."""

    @abc.abstractmethod
    def check(self, sde: SDE) -> None:
        """Raise ValueError if x0 or eps does not follow from F somewhere on [t_min, t_max]."""

    def c_in(self, sde: SDE, t: Times) -> Times:
        if not self.scale_input:
            return jnp.ones_like(t)
        return 1 / _scale(sde, t, self.sigma_data)


def _scale(sde: SDE, t: Times, sigma_data: float) -> Times:
    """Standard deviation of x_t for data of standard deviation sigma_data."""
    return jnp.sqrt((sde.alpha(t) * sigma_data) ** 2 + sde.sigma(t) ** 2)


def _refuse_zero_alpha(name: str, sde: SDE) -> None:
    if not ends(sde).alpha[1] > 0:
        raise ValueError(
            f"{name} with {sde}: alpha is 0 at t_max={sde.t_max}, where x0 does not follow from "
            f"eps; allowed: t_max < 1, or the parameterization v or x0"
        )


@dataclass(frozen=True)
class Eps(Parameterization):
    """F = eps (arXiv:2006.11239). Not for alpha = 0: x0 cannot be told from pure noise."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.zeros_like(t), jnp.ones_like(t)

    def check(self, sde: SDE) -> None:
        _refuse_zero_alpha("eps", sde)


@dataclass(frozen=True)
class Score(Parameterization):
    """F = -eps / sigma, the score of x_t given x0 (arXiv:2011.13456). Not for alpha = 0."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.zeros_like(t), -1 / sde.sigma(t)

    def check(self, sde: SDE) -> None:
        _refuse_zero_alpha("score", sde)


@dataclass(frozen=True)
class X0(Parameterization):
    """F = x0."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.ones_like(t), jnp.zeros_like(t)

    def check(self, sde: SDE) -> None:
        pass


@dataclass(frozen=True)
class V(Parameterization):
    """F = alpha eps - sigma x0 (arXiv:2202.00512, app. D).

    >>> from diffjax import schedules, sde
    >>> vp, t = sde.VP(schedules.Cosine(s=0.0), t_max=0.99), jnp.array(1 / 3)
    >>> [round(float(c), 4) for c in V().target(vp, t)]
    [-0.5, 0.866]
    """

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return -sde.sigma(t), sde.alpha(t)

    def check(self, sde: SDE) -> None:
        pass


@dataclass(frozen=True)
class Velocity(Parameterization):
    """F = alpha' x0 + sigma' eps, the velocity of the path (arXiv:2210.02747; 2303.08797)."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return sde.slopes(t)

    def check(self, sde: SDE) -> None:
        if np.isfinite(ends(sde).lam[1]):
            return
        at = float64(lambda near: jnp.stack(sde.slopes(1 - near)))(np.array([1e-6, 1e-8]))
        if not np.allclose(at[:, 0], at[:, 1], rtol=1e-2, atol=1e-2):
            raise ValueError(
                f"velocity with {sde}: alpha' or sigma' is infinite at t_max={sde.t_max}; allowed: "
                f"t_max < 1, or the parameterization v or x0"
            )


@dataclass(frozen=True)
class Edm(Parameterization):
    """F of x0 = c_skip x / alpha + c_out F (arXiv:2206.00364, eq. 7) in any frame.

    With q^2 = sigma^2 + alpha^2 sigma_data^2: F = sigma / (sigma_data q) x0 - alpha sigma_data / q
    eps, which is -v where sigma_data = 1 in VP.
    """

    sigma_data: float = 0.5

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        q = _scale(sde, t, self.sigma_data)
        return sde.sigma(t) / (self.sigma_data * q), -sde.alpha(t) * self.sigma_data / q

    def check(self, sde: SDE) -> None:
        pass


PARAMETERIZATIONS = catalogue(Eps, Score, X0, V, Velocity, Edm)
