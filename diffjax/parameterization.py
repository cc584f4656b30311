"""Parameterizations: the target F = a x0 + b eps of the network, its input c_in x and its c_noise.

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
    """Return 1000 t: the step index of discrete-time papers, in [0, 1000] (arXiv:2006.11239).

    >>> from diffjax import schedules, sde
    >>> float(time(sde.VP(schedules.Linear()), jnp.array(0.25)))
    250.0
    """
    return 1000 * t


def time_999(sde: SDE, t: Times) -> Times:
    """Return 999 t: the label of the score_sde code in continuous time (arXiv:2011.13456).

    >>> from diffjax import schedules, sde
    >>> float(time_999(sde.VP(schedules.Linear()), jnp.array(0.25)))
    249.75
    """
    return 999 * t


def time_999_reversed(sde: SDE, t: Times) -> Times:
    """Return 999 (1 - t): the index of score_sde's 1,000 noise levels, the highest first.

    >>> from diffjax import schedules, sde
    >>> float(time_999_reversed(sde.VP(schedules.Linear()), jnp.array(0.25)))
    749.25
    """
    return 999 * (1 - t)


def angle(sde: SDE, t: Times) -> Times:
    """Return 1000 (2 / pi) atan(sigma / alpha), in [0, 1000] at any log-SNR (arXiv:2202.00512).

    >>> from diffjax import schedules, sde
    >>> float(angle(sde.VP(schedules.Cosine(s=0.0)), jnp.array(0.5)).round(2))
    500.0
    """
    return 2000 / jnp.pi * jnp.arctan(jnp.exp(-sde.logsnr(t) / 2))


def index(sde: SDE, t: Times) -> Times:
    """Return T t - 1 for a schedule of T steps: the index k of t = (k + 1) / T, 0 to T - 1.

    >>> from diffjax import schedules, sde
    >>> float(index(sde.VP(schedules.ddpm_linear(steps=1000)), jnp.array(0.25)))
    249.0
    """
    return sde.schedule.steps * t - 1


def rescaled_index(sde: SDE, t: Times) -> Times:
    """Return 1000 k / T: the index k of T steps rescaled to 1,000 steps (arXiv:2102.09672).

    >>> from diffjax import schedules, sde
    >>> float(rescaled_index(sde.VP(schedules.ddpm_cosine(steps=4000)), jnp.array(0.5)))
    499.75
    """
    return 1000 * (t - 1 / sde.schedule.steps)


def t(sde: SDE, t: Times) -> Times:
    """Return t itself, in [0, 1].

    >>> from diffjax import schedules, sde
    >>> float(t(sde.VP(schedules.Linear()), jnp.array(0.25)))
    0.25
    """
    return t


def one_minus_t(sde: SDE, t: Times) -> Times:
    """Return 1 - t: the time of papers with noise at 0 and data at 1 (arXiv:2209.03003).

    >>> from diffjax import schedules, sde
    >>> float(one_minus_t(sde.Flow(schedules.Logit()), jnp.array(0.25)))
    0.75
    """
    return 1 - t


def half_logsnr(sde: SDE, t: Times) -> Times:
    """Return l / 2 = log(alpha / sigma), which must be finite.

    >>> from diffjax import schedules, sde
    >>> round(float(half_logsnr(sde.Flow(schedules.Logit()), jnp.array(0.25))), 3)  # log 3
    1.099
    """
    return sde.logsnr(t) / 2


def log_sigma(sde: SDE, t: Times) -> Times:
    """Return log(sigma / alpha), the label of NCSN++ (arXiv:2011.13456).

    >>> from diffjax import schedules, sde
    >>> round(float(log_sigma(sde.Flow(schedules.Logit()), jnp.array(0.25))), 3)  # -log 3
    -1.099
    """
    return -sde.logsnr(t) / 2


def log_half_sigma(sde: SDE, t: Times) -> Times:
    """Return log(sigma / (2 alpha)): `log_sigma` of a network trained on images in [0, 1].

    Images are in [-1, 1] here, so the same noise has twice the standard deviation.

    >>> from diffjax import schedules, sde
    >>> round(float(log_half_sigma(sde.VE(schedules.Edm(sigma_max=4.0)), jnp.array(0.5))), 3)
    0.0
    """
    return -sde.logsnr(t) / 2 - math.log(2)


def quarter_log_sigma(sde: SDE, t: Times) -> Times:
    """Return log(sigma / alpha) / 4, EDM's c_noise (arXiv:2206.00364, tab. 1).

    >>> from diffjax import schedules, sde
    >>> round(float(quarter_log_sigma(sde.Flow(schedules.Logit()), jnp.array(0.25))), 3)
    -0.275
    """
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
    """The target that a network is trained on, and the scaling of its inputs.

    c_noise: the noise label that the network receives, a function (sde, t) -> (B,). sigma_data: the
    standard deviation of the data, > 0, for c_in = 1 / sqrt(alpha^2 sigma_data^2 + sigma^2), which
    gives the input unit variance. scale_input: False feeds x unscaled (c_in = 1).

    Raises ValueError for a sigma_data that is not positive and finite.

    >>> Eps(c_noise=log_sigma).c_noise.__name__
    'log_sigma'
    >>> V(sigma_data=0.0)
    Traceback (most recent call last):
    ValueError: sigma_data=0.0: ...
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
        """Return (a, b) of F = a x0 + b eps, in the shape of t."""

    @abc.abstractmethod
    def check(self, sde: SDE) -> None:
        """Raise ValueError if F does not determine x0 and eps on all of [t_min, t_max]."""

    def c_in(self, sde: SDE, t: Times) -> Times:
        """Return the factor on x in the input of the network, in the shape of t."""
        if not self.scale_input:
            return jnp.ones_like(t)
        return 1 / _scale(sde, t, self.sigma_data)


def _scale(sde: SDE, t: Times, sigma_data: float) -> Times:
    """Return the standard deviation of x_t for data of standard deviation sigma_data."""
    return jnp.sqrt((sde.alpha(t) * sigma_data) ** 2 + sde.sigma(t) ** 2)


def _refuse_zero_alpha(name: str, sde: SDE) -> None:
    if not ends(sde).alpha[1] > 0:
        raise ValueError(
            f"{name} with {sde}: alpha is 0 at t_max={sde.t_max}, where x0 does not follow from "
            f"eps; allowed: t_max < 1, or the parameterization v or x0"
        )


@dataclass(frozen=True)
class Eps(Parameterization):
    """Noise prediction: F = eps (arXiv:2006.11239).

    It excludes alpha = 0, where x_t is pure noise and eps does not determine x0.

    >>> from diffjax import schedules, sde
    >>> a, b = Eps().target(sde.VP(schedules.Linear()), jnp.array(0.5))
    >>> float(a), float(b)
    (0.0, 1.0)
    """

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.zeros_like(t), jnp.ones_like(t)

    def check(self, sde: SDE) -> None:
        _refuse_zero_alpha("eps", sde)


@dataclass(frozen=True)
class Score(Parameterization):
    """Score prediction: F = -eps / sigma, the score of x_t given x0 (arXiv:2011.13456).

    It excludes alpha = 0, as `Eps` does.

    >>> from diffjax import schedules, sde
    >>> a, b = Score().target(sde.Flow(schedules.Logit(), t_max=0.9), jnp.array(0.25))
    >>> float(a), round(float(b), 4)
    (0.0, -4.0)
    """

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.zeros_like(t), -1 / sde.sigma(t)

    def check(self, sde: SDE) -> None:
        _refuse_zero_alpha("score", sde)


@dataclass(frozen=True)
class X0(Parameterization):
    """Data prediction: F = x0.

    >>> from diffjax import schedules, sde
    >>> a, b = X0().target(sde.VP(schedules.Linear()), jnp.array(0.5))
    >>> float(a), float(b)
    (1.0, 0.0)
    """

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.ones_like(t), jnp.zeros_like(t)

    def check(self, sde: SDE) -> None:
        pass


@dataclass(frozen=True)
class V(Parameterization):
    """v-prediction: F = alpha eps - sigma x0 (arXiv:2202.00512, app. D).

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
    """Velocity prediction: F = alpha' x0 + sigma' eps (arXiv:2210.02747; arXiv:2303.08797).

    `check` raises ValueError where alpha' or sigma' is infinite at t_max.

    >>> from diffjax import schedules, sde
    >>> a, b = Velocity().target(sde.Flow(schedules.Logit()), jnp.array(0.25))
    >>> round(float(a), 4), round(float(b), 4)  # eps - x0
    (-1.0, 1.0)
    """

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
    """EDM's preconditioning in any frame: x0 = c_skip x / alpha + c_out F.

    With q^2 = sigma^2 + alpha^2 sigma_data^2: F = sigma / (sigma_data q) x0 - alpha sigma_data / q
    eps, which is -v where sigma_data = 1 in VP (arXiv:2206.00364, eq. 7).

    >>> from diffjax import schedules, sde
    >>> ve = sde.VE(schedules.Edm(sigma_max=1.0))
    >>> a, b = Edm(sigma_data=0.5).target(ve, jnp.array(0.5))
    >>> round(float(a), 4), round(float(b), 4)
    (1.4142, -0.7071)
    """

    sigma_data: float = 0.5

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        q = _scale(sde, t, self.sigma_data)
        return sde.sigma(t) / (self.sigma_data * q), -sde.alpha(t) * self.sigma_data / q

    def check(self, sde: SDE) -> None:
        pass


PARAMETERIZATIONS = catalogue(Eps, Score, X0, V, Velocity, Edm)
