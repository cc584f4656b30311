"""Tokens as floats and as channels, so that every network of images and sequences works on them.

Token k of K levels is the value 2 k / (K - 1) - 1 of the data, which lie in [-1, 1]. A network sees
one channel per state, and its output channels are logits: a layer on these is an embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffjax.arrays import Cond, Params
from diffjax.nets.network import Network


def tokens(x: Float[Array, "*b"], levels: int) -> Int[Array, "*b"]:
    """Return the tokens 0, ..., levels - 1 that are nearest to values in [-1, 1].

    >>> tokens(jnp.array([-1.0, -0.1, 1.0]), 17).tolist()
    [0, 7, 16]
    """
    k = jnp.round((x + 1) / 2 * (levels - 1)).astype(jnp.int32)
    return jnp.clip(k, 0, levels - 1)


def values(k: Int[Array, "*b"], levels: int) -> Float[Array, "*b"]:
    """Return the values in [-1, 1] of tokens 0, ..., levels - 1, the inverse of `tokens`.

    >>> values(jnp.array([0, 8, 16]), 17).tolist()
    [-1.0, 0.0, 1.0]
    """
    return 2 * k.astype(jnp.float32) / (levels - 1) - 1


@dataclass(frozen=True)
class _Channels:
    """One function of a network on channels, for tokens. states: those that x may have, >= levels;
    levels: the states of data, which have logits."""

    network: Network
    states: int
    levels: int

    def __repr__(self) -> str:
        return f"{self.network.init!r} of {self.levels} levels"

    def channels(self, x: Array) -> Array:
        """Return tokens (B, ..., C) as channels (B, ..., C * states) of unit variance."""
        whole = jax.nn.one_hot(x.astype(jnp.int32), self.states) * math.sqrt(self.states)
        return whole.reshape(*x.shape[:-1], -1)


class _Init(_Channels):
    def __call__(self, key: Any, x: Array, c_noise: Array, cond: Cond | None) -> Params:
        return self.network.init(key, self.channels(x), c_noise, cond)


class _Apply(_Channels):
    def __call__(
        self, params: Params, x: Array, c_noise: Array, cond: Cond | None, *, key: Any = None
    ) -> Array:
        out: Any = self.network.apply(params, self.channels(x), c_noise, cond, key=key)
        return out.reshape(*x.shape, self.states)[..., : self.levels]


def of_tokens(network: Network, states: int, levels: int) -> Network:
    """Return the network of tokens (B, ..., C), as floats, with logits (B, ..., C, levels).

    network: one whose output has the shape of its input. states: the number of states of a token;
    the mask, state `levels`, has no logit, so that it is never predicted (arXiv:2406.07524, SUBS).

    >>> from diffjax import nets
    >>> network = of_tokens(nets.mlp(width=8, depth=1), states=4, levels=3)
    >>> x, t = jnp.zeros((2, 5)), jnp.zeros(2)
    >>> network.apply(network.init(jax.random.key(0), x, t, None), x, t, None).shape
    (2, 5, 3)
    """
    settings = (network, states, levels)
    return replace(network, init=_Init(*settings), apply=_Apply(*settings), encoder=None)
