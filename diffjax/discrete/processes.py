"""Processes that lose tokens: masked (absorbing) and uniform, over every schedule.

A token of K levels is kept up to time t with probability a(t), and otherwise it is lost: it becomes
the mask, or one of the K levels at random (arXiv:2107.03006). With l the log-SNR of the schedule,
1 - a(t) is sigmoid(-l(t)), mapped linearly so that it is 0 at t_min and 1 at t_max. The bounds then
have no terms for the ends: with the exact p(x0 | x_t) they are -log p(x0), for every schedule.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import expand
from diffjax.schedules import Times
from diffjax.sde import NEXT, SDE, ends

MOST = 256
"""The largest number of levels, those of a byte."""
LEAST = 1e-30
"""A probability that stands for 0 under a logarithm or in a denominator."""


def _limits(sde: SDE) -> tuple[float, float]:
    """Return sigmoid(-l) at t_min and t_max."""
    low, high = jax.nn.sigmoid(-2 * jnp.asarray(ends(sde).lam))
    return low, high


def lost(sde: SDE, t: Times) -> Times:
    """Return 1 - a(t), the probability that a token is lost up to time t, in the shape of t.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_min=1e-3)
    >>> [round(float(lost(flow, jnp.array(t))), 4) for t in (0.0, 1e-3, 0.5, 1.0)]
    [0.0, 0.0, 0.5, 1.0]
    """
    low, high = _limits(sde)
    return jnp.clip((jax.nn.sigmoid(-sde.logsnr(t)) - low) / (high - low), 0.0, 1.0)


def rate(sde: SDE, t: Times) -> Times:
    """Return -a'(t), the density of the time at which a token is lost, in the shape of t."""
    low, high = _limits(sde)
    t = jnp.clip(t, NEXT, 1 - NEXT)  # the derivative of an infinite log-SNR is NaN
    raw = lambda t: jax.nn.sigmoid(-sde.logsnr(t))
    return jax.jvp(raw, (t,), (jnp.ones_like(t),))[1] / (high - low)


def time(sde: SDE, share: Times) -> Times:
    """Return the time at which a token is lost with probability `share`: the inverse of `lost`.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_min=1e-3)
    >>> round(float(lost(flow, time(flow, jnp.array(0.3)))), 4)
    0.3
    """
    low, high = _limits(sde)
    p = low + (high - low) * share
    return jnp.clip(sde.inverse(jnp.log1p(-p) - jnp.log(p)), sde.t_min, sde.t_max)


def draw(keys: Key[Array, " b"], logits: Float[Array, "b *d k"]) -> Int[Array, "b *d"]:
    """Draw one token for each row of logits, with one key for each sample.

    Gumbel noise in float32 has at most 24 random bits by default, so it never exceeds 17 and rare
    tokens are too rare, which acts like a lower temperature (arXiv:2409.02908). `mode="high"` draws
    twice as many bits.

    >>> draw(jax.random.split(jax.random.key(0), 2), jnp.array([[0.0, 99.0], [99.0, 0.0]])).tolist()
    [1, 0]
    """
    one = lambda key, logits: jax.random.categorical(key, logits, mode="high")
    return jax.vmap(one)(keys, logits)


@dataclass(frozen=True)
class Process(abc.ABC):
    """What happens to tokens of K = `levels` levels, 0, ..., K - 1, over time.

    Logits (B, ..., K) are those of p(x0 | x_t) for each token. Raises ValueError unless
    2 <= levels <= 256.

    >>> Masked(17).states, Uniform(17).states
    (18, 17)
    """

    levels: int = MOST

    def __post_init__(self):
        checks.whole(2, levels=self.levels)
        if self.levels > MOST:
            raise ValueError(f"levels={self.levels}: needs 2 <= levels <= {MOST}")

    @property
    @abc.abstractmethod
    def states(self) -> int:
        """The number of states of a token."""

    @abc.abstractmethod
    def noise(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Int[Array, "*shape"]:
        """Draw the states of lost tokens, those of the prior."""

    def perturb(
        self, key: Key[Array, ""], sde: SDE, x0: Int[Array, "b *d"], t: Float[Array, " b"]
    ) -> Int[Array, "b *d"]:
        """Draw x_t from q(x_t | x0), at times t (B,)."""
        key_lost, key_noise = jax.random.split(key)
        gone = jax.random.uniform(key_lost, x0.shape) < expand(lost(sde, t), x0)
        return jnp.where(gone, self.noise(key_noise, x0.shape), x0)

    @abc.abstractmethod
    def step(
        self,
        logits: Float[Array, "b *d k"],
        x: Int[Array, "b *d"],
        lost_s: Float[Array, " b"],
        lost_t: Float[Array, " b"],
    ) -> Float[Array, "b *d n"]:
        """Return log p(x_s | x_t) for all states of each token, the mean of q(x_s | x_t, x0).

        x: x_t. lost_s, lost_t: the probabilities `lost` at s <= t, (B,).
        """

    @abc.abstractmethod
    def bound(
        self,
        sde: SDE,
        logits: Float[Array, "b *d k"],
        x0: Int[Array, "b *d"],
        x: Int[Array, "b *d"],
        t: Float[Array, " b"],
    ) -> Float[Array, " b"]:
        """Return the density over t in [t_min, t_max] of the bound of -log p(x0), in nats, (B,).

        The bound is its integral over t, and its mean over x ~ q(x_t | x0).
        """


def _total(nats: Array) -> Array:
    return nats.reshape(len(nats), -1).sum(-1)


class Masked(Process):
    """The masked (absorbing) process: a lost token becomes the mask, state K.

    A masked token is revealed between t and s with the probability 1 - lost(s) / lost(t), as a
    level that is drawn from its logits; others stay (arXiv:2406.07524, SUBS). The bound is the
    integral of -a' / (1 - a) times the cross-entropies of the masked tokens (arXiv:2406.04329).

    >>> Masked(3).step(jnp.zeros((1, 1, 3)), jnp.array([[3]]), jnp.array([0.4]), jnp.array([1.0]))
    Array([[[-1.6094..., -1.6094..., -1.6094..., -0.9162...]]], dtype=float32)
    """

    @property
    def states(self) -> int:
        return self.levels + 1

    def noise(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Int[Array, "*shape"]:
        return jnp.full(shape, self.levels, jnp.int32)

    def step(self, logits: Array, x: Array, lost_s: Array, lost_t: Array) -> Array:
        stays = expand(lost_s / jnp.maximum(lost_t, LEAST), logits)
        log_p = jnp.log1p(-stays) + jax.nn.log_softmax(logits)
        stays = jnp.broadcast_to(jnp.log(stays), (*log_p.shape[:-1], 1))
        kept = jnp.log(jax.nn.one_hot(x, self.states))
        return jnp.where((x == self.levels)[..., None], jnp.concatenate([log_p, stays], -1), kept)

    def bound(self, sde: SDE, logits: Array, x0: Array, x: Array, t: Array) -> Array:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), x0[..., None], -1)[..., 0]
        nats = jnp.where(x == self.levels, -chosen, 0.0)
        return rate(sde, t) / jnp.maximum(lost(sde, t), LEAST) * _total(nats)


class Uniform(Process):
    """The uniform process: a lost token becomes one of the K levels, each with 1 / K.

    A step is the posterior of arXiv:2107.03006, averaged over p(x0 | x_t). The bound is that of the
    reverse jumps: with r(y) = q_t(y | x0) / q_t(x_t | x0), R(y) its mean under p(x0 | x_t)
    and the forward rate -a' / a / K of each jump, the integral of the rate times the sum over
    y != x_t of R - r + r log(r / R) (arXiv:2205.14987).

    >>> Uniform(2).step(jnp.zeros((1, 1, 2)), jnp.array([[1]]), jnp.array([0.0]), jnp.array([1.0]))
    Array([[[-0.6931..., -0.6931...]]], dtype=float32)
    """

    @property
    def states(self) -> int:
        return self.levels

    def noise(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Int[Array, "*shape"]:
        return jax.random.randint(key, shape, 0, self.levels)

    def step(self, logits: Array, x: Array, lost_s: Array, lost_t: Array) -> Array:
        at, (s, t) = (
            jax.nn.one_hot(x, self.levels, dtype=logits.dtype),
            (expand(lost, logits) for lost in (lost_s, lost_t)),
        )
        keep = (1 - t) / jnp.maximum(1 - s, LEAST)  # from s to t
        weights = jax.nn.softmax(logits) / jnp.maximum((1 - t) * at + t / self.levels, LEAST)
        forward = keep * at + (1 - keep) / self.levels
        total = weights.sum(-1, keepdims=True)
        return jnp.log(forward) + jnp.log((1 - s) * weights + s / self.levels * total)

    def bound(self, sde: SDE, logits: Array, x0: Array, x: Array, t: Array) -> Array:
        gone = expand(lost(sde, t), logits)
        other = jnp.maximum(gone / self.levels, LEAST)
        same = (1 - gone) + other
        at, of = (jax.nn.one_hot(k, self.levels, dtype=logits.dtype) for k in (x, x0))

        def ratios(p: Array) -> Array:
            """Return the mean over x0 ~ p of q(y | x0) / q(x_t | x0), for y other than x_t."""
            here = (p * at).sum(-1, keepdims=True)
            return (1 - here - p) + here * other / same + p * same / other

        true, mean = ratios(of), jnp.maximum(ratios(jax.nn.softmax(logits)), LEAST)
        nats = mean - true + true * (jnp.log(true) - jnp.log(mean))
        jumps = jnp.where(at > 0, 0.0, nats).sum(-1) / self.levels
        return rate(sde, t) / jnp.maximum(1 - lost(sde, t), LEAST) * _total(jumps)
