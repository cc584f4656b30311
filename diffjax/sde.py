"""Noising processes x_t = alpha(t) x0 + sigma(t) eps, and the SDEs that have these marginals.

A process is a noise schedule seen in a frame; the frame maps log-SNR to (log alpha, log sigma).
Everything else is derived from those two functions: the forward SDE dx = f(t) x dt + g(t) dw with
f = (log alpha)' and g^2 = 2 sigma^2 ((log sigma)' - (log alpha)'), its marginals and its prior
(arXiv:2011.13456; arXiv:2107.00630). The logarithms are differentiated, not alpha and sigma:
the derivative of alpha itself is off by 5 to 19 % in float32 near t = 0.
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
"""Distance from t = 0 and t = 1 at which the one-sided limits there are evaluated."""
TRIED = 65
"""Number of times in [t_min, t_max] at which a schedule is tested for a falling log-SNR."""


@dataclass(frozen=True)
class SDE(abc.ABC):
    """A noising process: a noise schedule seen in a frame.

    schedule: the log-SNR as a function of time. t_min, t_max: the range of times, 0 < t_min < t_max
    <= 1, on which losses and samplers evaluate the network.

    Raises ValueError for other times, where sigma is infinite at t_max, and for a log-SNR that
    rises, that never falls or that is NaN.

    >>> from diffjax.schedules import Linear
    >>> vp = VP(Linear(), t_min=1e-3)
    >>> round(float(vp.logsnr(jnp.array(0.5))), 2), float(vp.alpha(jnp.array(0.0)))
    (-2.46, 1.0)
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
                f"{self}: needs a decreasing log-SNR; it is {l[k]:g} at t={times[k]:g} and "
                f"{l[end]:g} at t={times[end]:g}"
            )

    @abc.abstractmethod
    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        """Return (log alpha, log sigma) at log-SNR l, in the shape of l."""

    def bind(self, params: Mapping[str, Any]) -> SDE:
        """Return the process whose schedule has the trained parameters `params`.

        Without parameters the process itself is returned.
        """
        return rebuild(self, schedule=self.schedule.bind(params)) if params else self

    def logsnr(self, t: Times) -> LogSNR:
        """Return the log-SNR l = log(alpha^2 / sigma^2) at times t in [0, 1]."""
        return self.schedule(t)

    def inverse(self, l: LogSNR) -> Times:
        """Return the times at log-SNR l."""
        return self.schedule.inverse(l)

    def log_alpha(self, t: Times) -> Times:
        """Return log alpha(t), -inf for pure noise."""
        return self.frame(self.schedule(t))[0]

    def log_sigma(self, t: Times) -> Times:
        """Return log sigma(t), -inf for clean data."""
        return self.frame(self.schedule(t))[1]

    def alpha(self, t: Times) -> Times:
        """Return the scale alpha(t) of the signal x0."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: Times) -> Times:
        """Return the standard deviation sigma(t) of the noise."""
        return jnp.exp(self.log_sigma(t))

    def rates(self, t: Times) -> tuple[Times, Times]:
        """Return the time derivatives of (log alpha, log sigma), where the log-SNR is finite."""
        logs = lambda t: self.frame(self.schedule(t))
        return jax.jvp(logs, (t,), (jnp.ones_like(t),))[1]

    def drift(self, x: Float[Array, "b *d"], t: Float[Array, " b"]) -> Float[Array, "b *d"]:
        """Return the drift f(t) x of the forward SDE, (B, ...)."""
        return expand(self.rates(t)[0], x) * x

    def diffusion(self, t: Times) -> Times:
        """Return the diffusion coefficient g(t) of the forward SDE."""
        dlog_alpha, dlog_sigma = self.rates(t)
        return self.sigma(t) * jnp.sqrt(2 * (dlog_sigma - dlog_alpha))

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha', sigma'); where the log-SNR is infinite, their values next to that t."""
        inside = jnp.clip(t, NEXT, 1 - NEXT)
        t = jnp.where(jnp.isfinite(self.schedule(t)), t, inside)
        dlog_alpha, dlog_sigma = self.rates(t)
        return self.alpha(t) * dlog_alpha, self.sigma(t) * dlog_sigma

    def wronskian(self, t: Times) -> Times:
        """Return alpha sigma' - alpha' sigma = -alpha sigma l' / 2 > 0, finite where `slopes` is.

        It is the determinant that turns the pair (x, velocity) into (x0, eps).
        """
        dalpha, dsigma = self.slopes(t)
        return self.alpha(t) * dsigma - self.sigma(t) * dalpha

    def reverse_drift(
        self,
        x: Float[Array, "b *d"],
        t: Float[Array, " b"],
        score: Float[Array, "b *d"],
        chi: float = 1.0,
    ) -> Float[Array, "b *d"]:
        """Return f x - (1 + chi^2) / 2 g^2 score, the drift of the reverse process, (B, ...).

        The process has the noise chi g dw. For every chi >= 0 it has the marginals of the forward
        SDE: chi = 0 is the probability-flow ODE, chi = 1 the reverse SDE (arXiv:2011.13456, eq. 6
        and 13; arXiv:2107.03006).
        """
        half = (1 + chi**2) / 2 * self.diffusion(t) ** 2
        return self.drift(x, t) - expand(half, x) * score

    def transition(self, s: Times, t: Times) -> tuple[Times, Times]:
        """Return (a, b) of the forward transition x_t = a x_s + b z, for s < t."""
        at_s, at_t = self.log_alpha(s), self.log_alpha(t)
        return jnp.exp(at_t - at_s), self.sigma(t) * jnp.sqrt(-jnp.expm1(self._gap(s, t)))

    def posterior(self, s: Times, t: Times) -> tuple[Times, Times, Times]:
        """Return (a, b, c) of the posterior x_s = a x_t + b x0 + c z, for s < t.

        This is q(x_s | x_t, x0), a Gaussian (arXiv:2107.00630).
        """
        gap = self._gap(s, t)
        a = jnp.exp(gap + self.log_alpha(s) - self.log_alpha(t))
        share = -jnp.expm1(gap)
        return a, self.alpha(s) * share, self.sigma(s) * jnp.sqrt(share)

    def _gap(self, s: Times, t: Times) -> Times:
        """Return l(t) - l(s), which is negative for s < t."""
        return self.schedule(t) - self.schedule(s)

    def perturb(
        self, x0: Float[Array, "b *d"], eps: Float[Array, "b *d"], t: Float[Array, " b"]
    ) -> Float[Array, "b *d"]:
        """Return the noisy sample x_t = alpha x0 + sigma eps, (B, ...), for times t (B,).

        >>> from diffjax.schedules import Logit
        >>> x0, eps = jnp.array([[1.0]]), jnp.array([[-1.0]])
        >>> Flow(Logit(), t_max=0.9).perturb(x0, eps, jnp.array([0.25])).round(4).tolist()
        [[0.5]]
        """
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def prior(
        self, key: Key[Array, ""], shape: tuple[int, ...], t: Any = None
    ) -> Float[Array, "*shape"]:
        """Draw from the prior N(0, sigma(t)^2 I); t: t_max by default, or (L,) for positions."""
        sigma = self.sigma(jnp.asarray(self.t_max if t is None else t, float))
        sigma = sigma.reshape(-1, *(1,) * (len(shape) - 1)) if sigma.ndim else sigma
        return sigma * jax.random.normal(key, shape)

    def prior_logp(self, x: Float[Array, "b *d"]) -> Float[Array, " b"]:
        """Return the log-density of x (B, ...) under the prior at t_max, in nats, (B,)."""
        sigma = self.sigma(jnp.asarray(self.t_max))
        logp = -0.5 * (x / sigma) ** 2 - jnp.log(sigma) - 0.5 * jnp.log(2 * jnp.pi)
        return logp.sum(dims(x))


@dataclass(frozen=True)
class VP(SDE):
    """The variance-preserving process: alpha^2 = sigmoid(l), sigma^2 = sigmoid(-l).

    alpha^2 + sigma^2 = 1 at all times, so data of unit variance keep it (arXiv:2011.13456).

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
    """The variance-exploding process: alpha = 1, sigma^2 = exp(-l) (arXiv:2011.13456).

    >>> from diffjax.schedules import Edm
    >>> ve, t = VE(Edm(sigma_max=80.0), t_min=1e-4), jnp.array(0.5)
    >>> float(ve.alpha(t)), round(float(ve.sigma(t)), 3)
    (1.0, 40.0)
    """

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        return jnp.zeros_like(l), -l / 2


@dataclass(frozen=True)
class SubVP(SDE):
    """The sub-VP process: sigma = 1 - alpha^2 (arXiv:2011.13456, eq. 29).

    In terms of the log-SNR, sigma = 2 / (1 + sqrt(1 + 4 exp(l))). The process that the paper
    defines by a schedule of betas is SubVP(ClassicSubVP(schedule)).

    >>> from diffjax.schedules import ClassicSubVP, Linear
    >>> process, t = SubVP(ClassicSubVP(Linear())), jnp.array(0.25)
    >>> round(float(process.alpha(t) ** 2 + process.sigma(t)), 5)
    1.0
    """

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        vp = vp_logsnr(l)
        return jax.nn.log_sigmoid(vp) / 2, jax.nn.log_sigmoid(-vp)


@dataclass(frozen=True)
class Flow(SDE):
    """The straight path of flow matching: alpha + sigma = 1 (arXiv:2210.02747).

    >>> from diffjax.schedules import Logit
    >>> flow, t = Flow(Logit()), jnp.array(0.25)
    >>> round(float(flow.alpha(t)), 4), round(float(flow.sigma(t)), 4)
    (0.75, 0.25)
    """

    def frame(self, l: LogSNR) -> tuple[Times, Times]:
        return jax.nn.log_sigmoid(l / 2), jax.nn.log_sigmoid(-l / 2)


@dataclass(frozen=True)
class Levels:
    """Float64 values of a process at N times, each (N,).

    lam is log(alpha / sigma) = l / 2, the lambda of the DPM-Solver papers.

    >>> from diffjax.schedules import Logit
    >>> levels(Flow(Logit()), np.array([0.5, 0.25])).lam.round(3).tolist()  # log(alpha / sigma)
    [0.0, 1.099]
    """

    t: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    lam: np.ndarray


def levels(sde: SDE, times: np.ndarray) -> Levels:
    """Evaluate a process in float64 on the host, at times (N,).

    t = 0 stands for the data: l = inf and sigma = 0 there, whatever the schedule says.

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


@functools.lru_cache(256)
def ends(sde: SDE) -> Levels:
    """Return the noise levels at (t_min, t_max), computed once for each SDE.

    >>> from diffjax.schedules import Logit
    >>> ends(Flow(Logit(), t_min=0.1, t_max=0.75)).sigma.round(6).tolist()
    [0.1, 0.75]
    """
    return levels(sde, np.array([sde.t_min, sde.t_max]))


SDES = catalogue(VP, VE, SubVP, Flow)
