"""Episodes of policies, which act in a receding horizon, and demonstrations of experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax.environments.base import Environment, State

Policy = Callable[[Float[Array, "n o"], Key[Array, " n"]], Float[Array, "n h a"]]
"""`(observations, keys) -> chunks of the next h actions`, one of each per episode."""


class Episodes(NamedTuple):
    """The ends of N episodes.

    success: (N,). group: (N,), see `Environment.group`. length: the steps (N,) until the end.
    states: all states, (steps + 1, N, ...), that of the end repeated after it; None unless asked.
    """

    success: Bool[Array, " n"]
    group: Int[Array, " n"]
    length: Int[Array, " n"]
    states: State | None = None


class Demonstrations(NamedTuple):
    """The demonstrations of an expert in N episodes of T steps, which go on after success.

    observations: (N, T, o). actions: those of the expert, (N, T, a). length: the steps (N,) until
    success, T without it. success: (N,).
    """

    observations: Float[Array, "n t o"]
    actions: Float[Array, "n t a"]
    length: Int[Array, " n"]
    success: Bool[Array, " n"]


def episodes(
    environment: Environment,
    policy: Policy,
    keys: Key[Array, " n"],
    *,
    execute: int,
    path: bool = False,
) -> Episodes:
    """Run one episode per key (N,) of a policy, which decides again every `execute` actions.

    The receding horizon of arXiv:2303.04137: of each chunk of h >= `execute` actions the first
    `execute` are executed. Inside `jax.jit` all of it is one program. Episode k depends on keys[k]
    alone if the policy does. path: whether to return the states.

    >>> from diffjax.environments import Maze
    >>> stay = lambda observations, keys: observations[:, None, :2].repeat(8, 1)
    >>> ended = episodes(Maze(), stay, jax.random.split(jax.random.key(0), 3), execute=8)
    >>> ended.success.tolist(), ended.length.tolist()
    ([False, False, False], [64, 64, 64])
    """
    start = jax.vmap(environment.reset)(_folded(keys, 0))
    over = jnp.zeros(keys.shape, bool)

    def act(carry: Any, action: Array) -> tuple[Any, State | None]:
        state, over, length = carry
        after = jax.vmap(environment.step)(state, action)
        choose = lambda old, new: jnp.where(over.reshape(-1, *(1,) * (new.ndim - 1)), old, new)
        state = jax.tree.map(choose, state, after)
        length += ~over
        ended = jax.vmap(environment.succeeded)(state) | jax.vmap(environment.failed)(state)
        over |= ended | (length >= environment.steps)
        return (state, over, length), state if path else None

    def decide(carry: Any, number: Array) -> tuple[Any, State | None]:
        observed = jax.vmap(environment.observe)(carry[0])
        chunk = policy(observed, _folded(keys, number))
        return jax.lax.scan(act, carry, jnp.moveaxis(chunk[:, :execute], 1, 0))

    decisions = -(-environment.steps // execute)
    first = (start, over, jnp.zeros(keys.shape, int))
    (end, _, length), visited = jax.lax.scan(decide, first, jnp.arange(1, decisions + 1))
    states = None
    if path:
        joined = lambda a, b: jnp.concatenate([a[None], b.reshape(-1, *b.shape[2:])])
        states = jax.tree.map(joined, start, visited)
    group = jax.vmap(environment.group)(start)
    return Episodes(jax.vmap(environment.succeeded)(end), group, length, states)


def demonstrate(
    environment: Environment, keys: Key[Array, " n"], *, steps: int, noise: float = 0.0
) -> Demonstrations:
    """Run the expert for `steps` steps in one episode per key (N,).

    noise: the standard deviation of Gaussian noise that is added to the actions on their way to the
    environment, but not to those that are returned, so that they show how to correct small errors
    (arXiv:1703.09327).

    >>> from diffjax.environments import Maze
    >>> shown = demonstrate(Maze(), jax.random.split(jax.random.key(0), 4), steps=64)
    >>> shown.actions.shape, bool(shown.success.all())
    ((4, 64, 2), True)
    """

    def act(carry: Any, number: Array) -> tuple[Any, tuple[Array, Array]]:
        state, intent, over, success, length = carry
        choice, shake = jax.vmap(lambda k: jax.random.split(k), out_axes=1)(_folded(keys, number))
        action, intent = jax.vmap(environment.expert)(choice, state, intent)
        normal = jax.vmap(lambda k: jax.random.normal(k, (environment.action,)))(shake)
        after = jax.vmap(environment.step)(state, action + noise * normal)
        length += ~over
        success |= ~over & jax.vmap(environment.succeeded)(after)
        over |= success | jax.vmap(environment.failed)(after)
        observed = jax.vmap(environment.observe)(state)
        return (after, intent, over, success, length), (observed, action)

    start = jax.vmap(environment.reset)(_folded(keys, 0))
    no, none = jnp.zeros(keys.shape, bool), jnp.zeros(keys.shape, int)
    carry = (start, jax.vmap(environment.intent)(keys, start), no, no, none)
    carry, (observed, actions) = jax.lax.scan(act, carry, jnp.arange(1, steps + 1))
    turned = (jnp.moveaxis(a, 1, 0) for a in (observed, actions))
    return Demonstrations(*turned, length=carry[4], success=carry[3])


def _folded(keys: Key[Array, " n"], number: Any) -> Key[Array, " n"]:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
