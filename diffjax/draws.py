"""Distributions of t in training.

A draw is a quantile function Q: u in [0, 1) -> t in [t_min, t_max]. Its density is 1 / Q'(u), which
automatic differentiation provides, so that no distribution is written twice. `importance` decides
the role of the density. Where it is True the density is divided out: each loss is multiplied by
Q'(u) / (t_max - t_min), which keeps the expectation under uniform t and changes only its variance.
Where it is False the density is part of the objective, as in EDM.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from diffjax.arrays import catalogue
from diffjax.checks import at_least, within
from diffjax.schedules import Times
from diffjax.sde import SDE, ends

State = Any
LAST = 1 - 2.0**-24
"""The largest u in float32."""


@dataclass(frozen=True)
class Draw(abc.ABC):
    """A distribution of training times, from which the times of a batch are drawn.

    stratified: u_i = (u + i / n) mod 1, with one u for the whole batch across devices and
    accumulated parts, in place of independent u_i. Each t keeps its marginal distribution while the
    batch covers [t_min, t_max] evenly (arXiv:2107.00630, app. I). importance: whether the density
    is divided out of the loss; see the module's docstring.

    >>> u = Uniform(stratified=True).positions(jax.random.key(0), 4)
    >>> np.diff(np.sort(u)).round(3).tolist()
    [0.25, 0.25, 0.25]
    """

    stratified: bool = False
    importance: bool = False

    def init(self) -> State:
        """Return the initial state of the distribution; most have none."""
        return ()

    def positions(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """Draw u in [0, 1) for each of n samples."""
        if not self.stratified:
            return jax.random.uniform(key, (n,))
        return (jax.random.uniform(key) + jnp.arange(n) / n) % 1

    def check(self, sde: SDE) -> None:  # noqa: B027
        """Raise ValueError where the process does not admit this distribution."""

    @abc.abstractmethod
    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        """Return t at u in [0, 1), monotone in u."""

    def __call__(self, sde: SDE, u: Float[Array, " b"], state: State) -> tuple[Times, Times]:
        """Return the times (B,) at u (B,), and the factor (B,) that multiplies each loss."""
        t, slope = jax.jvp(lambda u: self.quantile(sde, u, state), (u,), (jnp.ones_like(u),))
        t = jnp.clip(t, sde.t_min, sde.t_max)  # rounding only
        width = sde.t_max - sde.t_min
        return t, jnp.abs(slope) / width if self.importance else jnp.ones_like(t)

    def update(self, state: State, sde: SDE, t: Times, loss: Times, score: Times) -> State:
        """Return the next state, from the losses and the scores of a batch.

        loss: (B,) at times t. score: squared norm of the score per dimension, (B,).
        """
        return state


@dataclass(frozen=True)
class Uniform(Draw):
    """Uniform times on [t_min, t_max].

    >>> Uniform(stratified=True)
    Uniform(stratified=True, importance=True)
    """

    importance: bool = True

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        return sde.t_min + (sde.t_max - sde.t_min) * u


@dataclass(frozen=True)
class Discrete(Draw):
    """Uniform times of a discrete process: t = k / steps, for every k with t in [t_min, t_max].

    steps: number of steps of the process, >= 1. Raises ValueError for importance=True, since a
    discrete distribution has no density, and for a process without such a k.

    >>> from diffjax import schedules, sde
    >>> print(Discrete(steps=4)(sde.VP(schedules.Linear(), t_min=0.25), jnp.array([0.5]), ())[0])
    [0.75]
    """

    steps: int = 1000

    def __post_init__(self):
        at_least(1, steps=self.steps)
        if self.importance:
            raise ValueError("importance=True: a discrete t has no density; allowed: False")

    def check(self, sde: SDE) -> None:
        first, last = self._range(sde)
        if last < first:
            raise ValueError(f"{self} with {sde}: no k / steps lies in [t_min, t_max]")

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        first, last = self._range(sde)
        return (first + jnp.floor(u * (last - first + 1))) / self.steps

    def _range(self, sde: SDE) -> tuple[int, int]:
        rounding = 1e-9
        return (
            math.ceil(sde.t_min * self.steps - rounding),
            math.floor(sde.t_max * self.steps + rounding),
        )


@dataclass(frozen=True)
class _Gaussian(Draw):
    """A variable of t that is normal, truncated to its range on [t_min, t_max].

    Raises ValueError unless mean is finite and 0 < std < inf, and for a process whose range holds
    less than 0.001 of the mass.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(f"{self}: needs a finite mean and 0 < std < inf")

    @abc.abstractmethod
    def limits(self, sde: SDE, dtype: Any) -> Float[Array, " 2"]:
        """Return the values of the normal variable at t_min and t_max."""

    def check(self, sde: SDE) -> None:
        low, high = self._cdf(self.limits(sde, jnp.float32))
        if not high - low > 1e-3:
            raise ValueError(
                f"{self} with {sde}: only {float(high - low):.1e} of its mass lies between t_min "
                f"and t_max; needs at least 0.001"
            )

    def _cdf(self, x: Array) -> Array:
        return jax.scipy.stats.norm.cdf((x - self.mean) / self.std)

    def _between(self, sde: SDE, u: Times) -> Times:
        """Return the quantile at u of N(mean, std^2) truncated to the limits."""
        low, high = self._cdf(self.limits(sde, u.dtype))
        p = low + u * (high - low)
        return self.mean + self.std * jax.scipy.special.ndtri(jnp.clip(p, 1 - LAST, LAST))


@dataclass(frozen=True)
class LogNormal(_Gaussian):
    """Log-normal noise levels: log(sigma / alpha) is normal (arXiv:2206.00364, tab. 1).

    The distribution is truncated to the noise levels of [t_min, t_max].

    >>> LogNormal(importance=True)  # the levels of EDM, with the density divided out
    LogNormal(stratified=False, importance=True, mean=-1.2, std=1.2)
    """

    mean: float = -1.2
    std: float = 1.2

    def limits(self, sde: SDE, dtype: Any) -> Float[Array, " 2"]:
        return -sde.logsnr(jnp.array([sde.t_min, sde.t_max], dtype)) / 2

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        return sde.inverse(-2 * self._between(sde, u))


@dataclass(frozen=True)
class LogitNormal(_Gaussian):
    """Logit-normal times: log(t / (1 - t)) is normal (arXiv:2403.03206, eq. 19).

    The distribution is truncated to [t_min, t_max].

    >>> LogitNormal(mean=0.5, stratified=True)
    LogitNormal(stratified=True, importance=False, mean=0.5, std=1.0)
    """

    def limits(self, sde: SDE, dtype: Any) -> Float[Array, " 2"]:
        return jax.scipy.special.logit(jnp.array([sde.t_min, sde.t_max], dtype))

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        return jax.nn.sigmoid(self._between(sde, u))


@dataclass(frozen=True)
class Mode(Draw):
    """Mode sampling: t = f(1 - u), f(v) = 1 - v - scale (cos^2(pi v / 2) - 1 + v).

    scale > 0 favours the middle of [t_min, t_max], scale < 0 both ends (arXiv:2403.03206, eq. 20);
    [0, 1] is mapped linearly to [t_min, t_max]. Raises ValueError for a scale outside of
    [-1, 2 / (pi - 2)], where f is not monotone.

    >>> from diffjax import schedules, sde
    >>> round(float(Mode()(sde.Flow(schedules.Logit()), jnp.array([0.1]), ())[0][0]), 2)
    0.2
    """

    scale: float = 1.29

    def __post_init__(self):
        if not -1 <= self.scale <= 2 / (math.pi - 2):
            raise ValueError(f"scale={self.scale}: needs -1 <= scale <= 2 / (pi - 2) = 1.7519")

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        t = u - self.scale * (jnp.sin(jnp.pi / 2 * u) ** 2 - u)
        return sde.t_min + (sde.t_max - sde.t_min) * t


@dataclass(frozen=True)
class Likelihood(Draw):
    """Uniform log-SNR: p(t) is proportional to g^2 / sigma^2 = -l' (arXiv:2101.09258, eq. 13).

    Raises ValueError for a process whose log-SNR is infinite at t_max.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_min=0.1, t_max=0.9)
    >>> print(flow.logsnr(Likelihood()(flow, jnp.array([0.25, 0.5]), ())[0]).round(2))
    [2.2 0. ]
    """

    importance: bool = True

    def check(self, sde: SDE) -> None:
        if not np.isfinite(ends(sde).lam[1]):
            raise ValueError(
                f"draw likelihood with {sde}: the log-SNR is -inf at t_max={sde.t_max}; allowed: "
                f"t_max < 1"
            )

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        first, last = sde.logsnr(jnp.array([sde.t_min, sde.t_max], u.dtype))
        return sde.inverse(first + u * (last - first))


@dataclass(frozen=True)
class _Tracked(Draw):
    """A piecewise-constant p(t) on `bins` equal parts of [t_min, t_max], learned during training.

    bins: number of parts, >= 2. history: number of recent values kept per bin, >= 1; t is uniform
    until every bin is full. floor: share of uniform t in the mixture, in (0, 1]. The state lives on
    the device: `seen` (bins, history), the values, and `count` (bins,), how many there have been.
    """

    importance: bool = True
    bins: int = 100
    history: int = 10
    floor: float = 0.001

    def __post_init__(self):
        at_least(2, bins=self.bins)
        at_least(1, history=self.history)
        within(0, 1, "(]", floor=self.floor)

    @abc.abstractmethod
    def share(self, seen: Float[Array, "m h"]) -> Float[Array, " m"]:
        """Return p(t) in each bin up to a common factor, from its recent values."""

    def init(self) -> State:
        seen = jnp.zeros((self.bins, self.history))
        return {"seen": seen, "count": jnp.zeros(self.bins, jnp.int32)}

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        share = self.share(state["seen"])
        is_ready = (state["count"] >= self.history).all() & (share.sum() > 0)
        share = jnp.where(is_ready, share, 1.0)
        share = (1 - self.floor) * share / share.sum() + self.floor / self.bins
        edges = jnp.append(0.0, jnp.cumsum(share) / share.sum()).astype(u.dtype)
        k = jnp.clip(jnp.searchsorted(edges, u, side="right") - 1, 0, self.bins - 1)
        within = (u - edges[k]) / (edges[k + 1] - edges[k])
        return sde.t_min + (sde.t_max - sde.t_min) * (k + within) / self.bins

    def _push(self, state: State, sde: SDE, t: Times, value: Times) -> State:
        """Store the values of a batch in their bins, in the order of its samples."""
        place = (t - sde.t_min) / (sde.t_max - sde.t_min) * self.bins
        k: Int[Array, " b"] = jnp.clip(place.astype(jnp.int32), 0, self.bins - 1)
        # Several samples of a batch may fall into one bin. A scatter to equal indices has no
        # defined order, so each gets its own slot from the number of samples before it.
        same = k[:, None] == k[None]
        earlier, later = jnp.tril(same, -1).sum(1), jnp.triu(same, 1).sum(1)
        slot = (state["count"][k] + earlier) % self.history
        value = jax.lax.stop_gradient(value).astype(jnp.float32)
        # Row `bins` does not exist, so mode="drop" skips it: values that later ones of the batch
        # overwrite, and values that are not finite.
        row = jnp.where((later < self.history) & jnp.isfinite(value), k, self.bins)
        return {
            "seen": state["seen"].at[row, slot].set(value, mode="drop"),
            "count": state["count"].at[k].add(1),
        }


@dataclass(frozen=True)
class SecondMoment(_Tracked):
    """p(t) proportional to sqrt(E[loss^2]) over recent losses (arXiv:2102.09672, eq. 18).

    >>> {name: array.shape for name, array in SecondMoment(bins=4, history=10).init().items()}
    {'seen': (4, 10), 'count': (4,)}
    """

    def share(self, seen: Float[Array, "m h"]) -> Float[Array, " m"]:
        return jnp.sqrt((seen**2).mean(1))

    def update(self, state: State, sde: SDE, t: Times, loss: Times, score: Times) -> State:
        return self._push(state, sde, t, loss)


@dataclass(frozen=True)
class ScoreNorm(_Tracked):
    """p(t) proportional to E||score||^2 of the model's score over recent inputs.

    >>> ScoreNorm(bins=4, history=10).init()["seen"].shape
    (4, 10)
    """

    def share(self, seen: Float[Array, "m h"]) -> Float[Array, " m"]:
        return seen.mean(1)

    def update(self, state: State, sde: SDE, t: Times, loss: Times, score: Times) -> State:
        return self._push(state, sde, t, score)


DRAWS = catalogue(
    Uniform, Discrete, LogNormal, LogitNormal, Mode, Likelihood, SecondMoment, ScoreNorm
)
