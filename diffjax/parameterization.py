"""What the network is asked for: F = a x0 + b eps, from c_in x and the noise label c_noise.

Both views follow from F = a x0 + b eps and x = alpha x0 + sigma eps without passing through each
other: x0 = (sigma F - b x) / (a sigma - b alpha), eps = (a x - alpha F) / (a sigma - b alpha).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp

from diffjax.arrays import catalogue
from diffjax.schedules import Times
from diffjax.sde import SDE, ends

NoiseLabel = Callable[[SDE, Times], Times]


def time(sde: SDE, t: Times) -> Times:
    """1000 t: the step index of the discrete papers, in [0, 1000] (arXiv:2006.11239)."""
    return 1000 * t


def angle(sde: SDE, t: Times) -> Times:
    """1000 (2 / pi) atan(sigma / alpha), in [0, 1000] at any log-SNR (arXiv:2202.00512)."""
    return 2000 / jnp.pi * jnp.arctan(jnp.exp(-sde.logsnr(t) / 2))


NOISE_LABELS = catalogue(time, angle)


@dataclass(frozen=True)
class Parameterization(abc.ABC):
    """The network's target and its input scale.

    c_noise: noise label given to the network. sigma_data: standard deviation of the data, for
    c_in = 1 / sqrt(alpha^2 sigma_data^2 + sigma^2), which gives the input unit variance.
    """

    c_noise: NoiseLabel = time
    sigma_data: float = 1.0

    def __post_init__(self):
        if not self.sigma_data > 0:
            raise ValueError(f"sigma_data={self.sigma_data}: needs sigma_data > 0")

    @abc.abstractmethod
    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        """(a, b) of F = a x0 + b eps."""

    @abc.abstractmethod
    def check(self, sde: SDE) -> None:
        """Raise ValueError if x0 or eps does not follow from F somewhere on [t_min, t_max]."""

    def c_in(self, sde: SDE, t: Times) -> Times:
        return 1 / jnp.sqrt((sde.alpha(t) * self.sigma_data) ** 2 + sde.sigma(t) ** 2)


@dataclass(frozen=True)
class Eps(Parameterization):
    """F = eps (arXiv:2006.11239). Not for alpha = 0: x0 cannot be told from pure noise."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.zeros_like(t), jnp.ones_like(t)

    def check(self, sde: SDE) -> None:
        if not ends(sde).alpha[1] > 0:
            raise ValueError(
                f"eps with {sde}: alpha is 0 at t_max={sde.t_max}, where x0 does not follow from "
                f"eps; allowed: t_max < 1, or the parameterization v or x0"
            )


@dataclass(frozen=True)
class X0(Parameterization):
    """F = x0."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return jnp.ones_like(t), jnp.zeros_like(t)

    def check(self, sde: SDE) -> None:
        pass


@dataclass(frozen=True)
class V(Parameterization):
    """F = alpha eps - sigma x0 (arXiv:2202.00512, app. D)."""

    def target(self, sde: SDE, t: Times) -> tuple[Times, Times]:
        return -sde.sigma(t), sde.alpha(t)

    def check(self, sde: SDE) -> None:
        pass


PARAMETERIZATIONS = catalogue(Eps, X0, V)
