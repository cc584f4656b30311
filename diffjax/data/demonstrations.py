"""Demonstrations of the expert of an environment: chunks of actions, given observations."""

from __future__ import annotations

import functools

import jax
import numpy as np

from diffjax import checks
from diffjax import environments as known
from diffjax.arrays import stream
from diffjax.data.source import Memory, check_split


def demonstrations(
    split: str,
    environment: str = "maze",
    episodes: int = 2000,
    horizon: int = 16,
    noise: float = 0.03,
    seed: int = 0,
    every: int = 0,
) -> Memory:
    """Let the expert of an environment act, and cut its episodes into chunks of actions.

    Each step of each episode until success is an item: the next `horizon` actions, (horizon, a),
    relative to the place of what they move, and as the condition `vector` the observation before
    them. With every >= 1 each episode is an item instead, a plan without a condition: the places of
    what is moved at every `every`-th step from the first, (horizon, a), in units of the scale of
    the environment.

    environment: an entry of `environments.ENVIRONMENTS`, or `module:CLASS`. episodes: their number
    in each split; those without success are left out. noise: see `environments.demonstrate`. seed:
    of the episodes. Raises ValueError for values out of range, and where no episode succeeds.

    >>> demonstrations("train", episodes=4, horizon=8)
    Memory(80 trajectory items of (8, 2) float32, classes=0, vector)
    """
    check_split(split, "demonstrations")
    checks.at_least(1, episodes=episodes, horizon=horizon)
    checks.at_least(0, every=every)
    checks.not_negative(noise=noise)
    env = known.environment(environment)
    steps = horizon * every if every else env.steps + horizon
    shown = _shown(env, split, episodes, steps, noise, seed)
    kept = np.flatnonzero(shown.success)
    if not len(kept):
        raise ValueError(f"environment={environment!r}: the expert succeeds in no episode")
    units = (("environment", environment),)
    if every:
        places = np.asarray(shown.observations)[kept, ::every, : env.action]
        places = places / np.float32(env.scale)
        return Memory(places, kind="trajectory", units=units)
    windows = np.lib.stride_tricks.sliding_window_view(shown.actions, horizon, 1).swapaxes(2, 3)
    x = np.concatenate([windows[k, : shown.length[k]] for k in kept])
    observed = np.concatenate([shown.observations[k, : shown.length[k]] for k in kept])
    x = np.asarray(env.relative(observed, x))
    return Memory(x, kind="trajectory", cond={"vector": observed}, units=units)


def _shown(
    env: known.Environment, split: str, episodes: int, steps: int, noise: float, seed: int
) -> known.Demonstrations:
    """Return the episodes as arrays of NumPy, computed on the CPU, so that all machines agree."""
    act = functools.partial(known.demonstrate, env, steps=steps, noise=noise)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        keys = jax.random.split(stream(seed, f"demonstrations {split}"), episodes)
        return jax.tree.map(np.asarray, jax.jit(act)(keys))
