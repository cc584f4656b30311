"""Distributions of t in training.

A draw is a quantile function Q: u in [0, 1) -> t in [t_min, t_max]. Its density is 1 / Q'(u), by
automatic differentiation, so that nothing is written twice. `importance` says what the density is
for: divided out, each loss counting by Q'(u) / (t_max - t_min), the expectation is that of uniform
t and only its variance changes; else the density is a part of the objective, as in EDM.
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
    """How the times of a batch are drawn.

    stratified: u_i = (u + i / n) mod 1 with one u for the whole batch, over all devices and parts
    of it, in place of independent u_i: each t has the same law, together they cover it
    (arXiv:2107.00630, app. I). importance: see the module.
    """

    stratified: bool = False
    importance: bool = False

    def init(self) -> State:
        """What is remembered from step to step."""
        return ()

    def positions(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """u of each sample of a batch."""
        if not self.stratified:
            return jax.random.uniform(key, (n,))
        return (jax.random.uniform(key) + jnp.arange(n) / n) % 1

    def check(self, sde: SDE) -> None:  # noqa: B027
        """Raise ValueError where the process does not allow this draw."""

    @abc.abstractmethod
    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        """t at u, monotone."""

    def __call__(self, sde: SDE, u: Float[Array, " b"], state: State) -> tuple[Times, Times]:
        """Times, and the factor that each loss counts by."""
        t, slope = jax.jvp(lambda u: self.quantile(sde, u, state), (u,), (jnp.ones_like(u),))
        t = jnp.clip(t, sde.t_min, sde.t_max)  # rounding only
        width = sde.t_max - sde.t_min
        return t, jnp.abs(slope) / width if self.importance else jnp.ones_like(t)

    def update(self, state: State, sde: SDE, t: Times, loss: Times, score: Times) -> State:
        """The next state, from losses (B,) at t and squared norms of the score per dimension."""
        return state


@dataclass(frozen=True)
class Uniform(Draw):
    """t uniform on [t_min, t_max]."""

    importance: bool = True

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        return sde.t_min + (sde.t_max - sde.t_min) * u


@dataclass(frozen=True)
class Discrete(Draw):
    """t = k / steps, every k with t in [t_min, t_max] alike: the index of a discrete process."""

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
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(f"{self}: needs a finite mean and 0 < std < inf")

    @abc.abstractmethod
    def limits(self, sde: SDE, dtype: Any) -> Float[Array, " 2"]:
        """The ends of time, in the variable that is normal."""

    def check(self, sde: SDE) -> None:
        low, high = self._cdf(self.limits(sde, jnp.float32))
        if not high - low > 1e-3:
            raise ValueError(
                f"{self} with {sde}: only {float(high - low):.1e} of its mass lies between t_min "
                f"and t_max; needs 0.001"
            )

    def _cdf(self, x: Array) -> Array:
        return jax.scipy.stats.norm.cdf((x - self.mean) / self.std)

    def _between(self, sde: SDE, u: Times) -> Times:
        """Quantile of N(mean, std^2) within the limits."""
        low, high = self._cdf(self.limits(sde, u.dtype))
        p = low + u * (high - low)
        return self.mean + self.std * jax.scipy.special.ndtri(jnp.clip(p, 1 - LAST, LAST))


@dataclass(frozen=True)
class LogNormal(_Gaussian):
    """log(sigma / alpha) normal, within the range of the process (arXiv:2206.00364, tab. 1)."""

    mean: float = -1.2
    std: float = 1.2

    def limits(self, sde: SDE, dtype: Any) -> Float[Array, " 2"]:
        return -sde.logsnr(jnp.array([sde.t_min, sde.t_max], dtype)) / 2

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        return sde.inverse(-2 * self._between(sde, u))


@dataclass(frozen=True)
class LogitNormal(_Gaussian):
    """log(t / (1 - t)) normal, within [t_min, t_max] (arXiv:2403.03206, eq. 19)."""

    def limits(self, sde: SDE, dtype: Any) -> Float[Array, " 2"]:
        return jax.scipy.special.logit(jnp.array([sde.t_min, sde.t_max], dtype))

    def quantile(self, sde: SDE, u: Times, state: State) -> Times:
        return jax.nn.sigmoid(self._between(sde, u))


@dataclass(frozen=True)
class Mode(Draw):
    """t = f(1 - u), f(v) = 1 - v - scale (cos^2(pi v / 2) - 1 + v) (arXiv:2403.03206, eq. 20).

    scale > 0 favours the middle, scale < 0 both ends; [0, 1] is stretched to [t_min, t_max].
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
    """p(t) proportional to g^2 / sigma^2 = -l': uniform log-SNR (arXiv:2101.09258, eq. 13)."""

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
    """p(t) constant on each of `bins` equal parts of [t_min, t_max], after what was seen there.

    history: values that are kept per bin; until all bins have so many, t is uniform. floor: share
    of uniform t. The state lives on the device: `seen` (bins, history), `count` (bins,).
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
        """What p(t) is proportional to in each bin."""

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
        """Keep the newest values of each bin; those of one batch in the order of its samples."""
        place = (t - sde.t_min) / (sde.t_max - sde.t_min) * self.bins
        k: Int[Array, " b"] = jnp.clip(place.astype(jnp.int32), 0, self.bins - 1)
        same = k[:, None] == k[None]
        earlier, later = jnp.tril(same, -1).sum(1), jnp.triu(same, 1).sum(1)
        slot = (state["count"][k] + earlier) % self.history
        value = jax.lax.stop_gradient(value).astype(jnp.float32)
        # Left out: what is overwritten within the batch, and what is not finite.
        row = jnp.where((later < self.history) & jnp.isfinite(value), k, self.bins)
        return {
            "seen": state["seen"].at[row, slot].set(value, mode="drop"),
            "count": state["count"].at[k].add(1),
        }


@dataclass(frozen=True)
class SecondMoment(_Tracked):
    """p(t) proportional to sqrt(E[loss^2]) of the last losses (arXiv:2102.09672, eq. 18)."""

    def share(self, seen: Float[Array, "m h"]) -> Float[Array, " m"]:
        return jnp.sqrt((seen**2).mean(1))

    def update(self, state: State, sde: SDE, t: Times, loss: Times, score: Times) -> State:
        return self._push(state, sde, t, loss)


@dataclass(frozen=True)
class ScoreNorm(_Tracked):
    """p(t) proportional to E||score||^2, the model's own at its last inputs."""

    def share(self, seen: Float[Array, "m h"]) -> Float[Array, " m"]:
        return seen.mean(1)

    def update(self, state: State, sde: SDE, t: Times, loss: Times, score: Times) -> State:
        return self._push(state, sde, t, score)


DRAWS = catalogue(
    Uniform, Discrete, LogNormal, LogitNormal, Mode, Likelihood, SecondMoment, ScoreNorm
)
