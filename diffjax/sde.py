"""Frames over a schedule: x_t = alpha(t) x0 + sigma(t) eps, and the SDE that has these marginals.

A frame maps log-SNR to (log alpha, log sigma). Everything else is derived from those two functions:
the forward SDE dx = f(t) x dt + g(t) dw with f = (log alpha)', g^2 = 2 sigma^2 ((log sigma)' -
(log alpha)'), its marginals and its prior (arXiv:2011.13456; arXiv:2107.00630). Rates are taken of
the logarithms: the derivative of alpha itself loses 5 to 19 % in float32 near t = 0.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import catalogue, dims, expand, float64, rebuild
from diffjax.schedules import LogSNR, Schedule, Times
from diffjax.schedules.combinators import vp_logsnr

NEXT = 1e-6
"""How far from an end of time its limits are taken."""
TRIED = 65
"""Times at which a schedule is tried: does it fall?"""


@dataclass(frozen=True)
class SDE(abc.ABC):
    """A noising process: `schedule` seen in a frame.

    Losses and samplers evaluate the network on [t_min, t_max] only. Raises ValueError where sigma
    is infinite at t_max, and for a log-SNR that rises or is not a number.
    """

    schedule: Schedule
    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self):
        checks.instance(Schedule, "diffjax.schedules.Linear()", schedule=self.schedule)
        checks.number(t_min=self.t_min, t_max=self.t_max)
        if not 0 < self.t_min < self.t_max <= 1:
            raise ValueError(f"{self}: needs 0 < t_min < t_max <= 1")
        if not np.isfinite(ends(self).sigma[1]):
            raise ValueError(
                f"{self}: sigma is infinite at t_max={self.t_max}, where the log-SNR of the "
                f"schedule is unbounded; allowed: t_max < 1, or a schedule bounded at t = 1"
            )
        times = np.linspace(self.t_min, self.t_max, TRIED)
        l = 2 * levels(self, times).lam
        with np.errstate(invalid="ignore"):  # two infinite values in a row are refused as well
            rises = ~(np.diff(l) <= 1e-6 * (1 + np.abs(l[:-1])))  # parts may be constant
        if rises.any() or not l[-1] < l[0]:
            k = int(np.argmax(rises))
            k, end = (k, k + 1) if rises.any() else (0, -1)
            raise ValueError(
                f"{self}: needs a log-SNR that falls; it is {l[k]:g} at t={times[k]:g} and "
                f"{l[end]:g} at t={times[end]:g}"
            )

    @abc.abstractmethod
    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        """(log alpha, log sigma) at log-SNR l."""

    def bind(self, params: Mapping[str, Any]) -> SDE:
        """The process whose schedule has the trained parameters `params`; itself without any."""
        return rebuild(self, schedule=self.schedule.bind(params)) if params else self

    def logsnr(self, t: Times) -> LogSNR:
        return self.schedule(t)

    def inverse(self, l: LogSNR) -> Times:
        return self.schedule.inverse(l)

    def log_alpha(self, t: Times) -> Times:
        return self.frame(self.schedule(t))[0]

    def log_sigma(self, t: Times) -> Times:
        return self.frame(self.schedule(t))[1]

    def alpha(self, t: Times) -> Times:
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: Times) -> Times:
        return jnp.exp(self.log_sigma(t))

    def rates(self, t: Times) -> tuple[Times, Times]:
        """Time derivatives of (log alpha, log sigma), where the log-SNR is finite."""
        logs = lambda t: self.frame(self.schedule(t))
        return jax.jvp(logs, (t,), (jnp.ones_like(t),))[1]

    def drift(self, x: Float[Array, "b *d"], t: Float[Array, " b"]) -> Float[Array, "b *d"]:
        """f(t) x of the forward SDE."""
        return expand(self.rates(t)[0], x) * x

    def diffusion(self, t: Times) -> Times:
        """g(t) of the forward SDE."""
        dlog_alpha, dlog_sigma = self.rates(t)
        return self.sigma(t) * jnp.sqrt(2 * (dlog_sigma - dlog_alpha))

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """(alpha', sigma'); where the log-SNR is infinite, their values next to it."""
        inside = jnp.clip(t, NEXT, 1 - NEXT)
        t = jnp.where(jnp.isfinite(self.schedule(t)), t, inside)
        dlog_alpha, dlog_sigma = self.rates(t)
        return self.alpha(t) * dlog_alpha, self.sigma(t) * dlog_sigma

    def wronskian(self, t: Times) -> Times:
        """alpha sigma' - alpha' sigma = -alpha sigma l' / 2 > 0, finite where slopes are."""
        dalpha, dsigma = self.slopes(t)
        return self.alpha(t) * dsigma - self.sigma(t) * dalpha

    def reverse_drift(
        self,
        x: Float[Array, "b *d"],
        t: Float[Array, " b"],
        score: Float[Array, "b *d"],
        chi: float = 1.0,
    ) -> Float[Array, "b *d"]:
        """f x - (1 + chi^2) / 2 g^2 score: the drift of the reverse process with noise chi g dw.

        All have the marginals of the forward SDE: chi = 0 is the probability-flow ODE, chi = 1 the
        reverse SDE (arXiv:2011.13456, eq. 6 and 13; arXiv:2107.03006).
        """
        half = (1 + chi**2) / 2 * self.diffusion(t) ** 2
        return self.drift(x, t) - expand(half, x) * score

    def transition(self, s: Times, t: Times) -> tuple[Times, Times]:
        """(a, b) of x_t = a x_s + b z, for s < t."""
        at_s, at_t = self.log_alpha(s), self.log_alpha(t)
        return jnp.exp(at_t - at_s), self.sigma(t) * jnp.sqrt(-jnp.expm1(self._gap(s, t)))

    def posterior(self, s: Times, t: Times) -> tuple[Times, Times, Times]:
        """(a, b, c) of x_s = a x_t + b x0 + c z given x_t and x0, for s < t (arXiv:2107.00630)."""
        gap = self._gap(s, t)
        a = jnp.exp(gap + self.log_alpha(s) - self.log_alpha(t))
        share = -jnp.expm1(gap)
        return a, self.alpha(s) * share, self.sigma(s) * jnp.sqrt(share)

    def _gap(self, s: Times, t: Times) -> Times:
        """Log-SNR at t less that at s: negative."""
        return self.schedule(t) - self.schedule(s)

    def perturb(
        self, x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], t: Float[Array, " b"]
    ) -> Float[Array, "b *d"]:
        """x_t = alpha x0 + sigma eps."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def prior(
        self, key: Key[Array, ""], shape: tuple[int, ...], t: Any = None
    ) -> Float[Array, "*shape"]:
        """A draw from N(0, sigma(t)^2 I), t_max unless t is given."""
        t = jnp.asarray(self.t_max if t is None else t, float)
        return self.sigma(t) * jax.random.normal(key, shape)

    def prior_logp(self, x: Float[Array, "b *d"]) -> Float[Array, " b"]:
        """Log-density of the prior in nats, (B,)."""
        sigma = self.sigma(jnp.asarray(self.t_max))
        logp = -0.5 * (x / sigma) ** 2 - jnp.log(sigma) - 0.5 * jnp.log(2 * jnp.pi)
        return logp.sum(dims(x))


@dataclass(frozen=True)
class VP(SDE):
    """Variance preserving: alpha^2 = sigmoid(l), sigma^2 = sigmoid(-l) (arXiv:2011.13456).

    >>> from diffjax.schedules import Linear
    >>> vp, t = VP(Linear(beta_min=0.1, beta_max=20.0)), jnp.array(0.5)
    >>> round(float(vp.alpha(t) ** 2 + vp.sigma(t) ** 2), 6)
    1.0
    >>> round(float(vp.diffusion(t) ** 2), 3)  # beta(1 / 2)
    10.05
    """

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        return jax.nn.log_sigmoid(l) / 2, jax.nn.log_sigmoid(-l) / 2


@dataclass(frozen=True)
class VE(SDE):
    """Variance exploding: alpha = 1, sigma^2 = exp(-l) (arXiv:2011.13456)."""

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        return jnp.zeros_like(l), -l / 2


@dataclass(frozen=True)
class SubVP(SDE):
    """sigma = 1 - alpha^2 (arXiv:2011.13456, eq. 29), so sigma = 2 / (1 + sqrt(1 + 4 exp(l))).

    The classic process of a schedule of betas is SubVP(ClassicSubVP(schedule)).
    """

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        vp = vp_logsnr(l)
        return jax.nn.log_sigmoid(vp) / 2, jax.nn.log_sigmoid(-vp)


@dataclass(frozen=True)
class Flow(SDE):
    """alpha + sigma = 1: the straight path of flow matching (arXiv:2210.02747)."""

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        return jax.nn.log_sigmoid(l / 2), jax.nn.log_sigmoid(-l / 2)


@dataclass(frozen=True)
class Levels:
    """Float64 values at some times, each (N,): `lam` is log(alpha / sigma) = l / 2."""

    t: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    lam: np.ndarray


def levels(sde: SDE, times: np.ndarray) -> Levels:
    """Evaluate `sde` in float64 on the host. t = 0 stands for the data: l = inf, sigma = 0.

    >>> from diffjax.schedules import Logit
    >>> levels(Flow(Logit(), t_max=0.9), np.array([0.5, 0.0])).sigma.round(12).tolist()
    [0.5, 0.0]
    """
    checks.instance(SDE, "diffjax.sde.VP(diffjax.schedules.Linear())", sde=sde)
    times = np.asarray(times, np.float64)

    @float64
    def at(t):
        l = jnp.where(t == 0, jnp.inf, sde.logsnr(t))
        log_alpha, log_sigma = sde.frame(l)
        return jnp.exp(log_alpha), jnp.exp(log_sigma), l / 2

    return Levels(times, *at(times))


@functools.cache
def ends(sde: SDE) -> Levels:
    """Levels at (t_min, t_max)."""
    return levels(sde, np.array([sde.t_min, sde.t_max]))


SDES = catalogue(VP, VE, SubVP, Flow)
