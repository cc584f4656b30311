"""Demonstrations of the expert of an environment: chunks of actions, given observations."""

from __future__ import annotations

import functools

import jax
import numpy as np

from diffjax import checks
from diffjax import environments as known
from diffjax.arrays import stream
from diffjax.data.source import Memory, check_split
from diffjax.environments import plans


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
    them. With every >= 1 the items are plans instead: `horizon` rows of the state at every
    `every`-th step and the actions before it (`environments.plans`).

    environment: an entry of `environments.ENVIRONMENTS`, or `module:CLASS`. episodes: their number
    in each split; those without success are left out. noise: see `environments.demonstrate`. seed:
    of the episodes. Raises ValueError for values out of range, and where no episode succeeds.

    >>> demonstrations("train", episodes=4, horizon=8)
    Memory(80 trajectory items of (8, 2) float32, classes=0, vector)
    """
    check_split(split, "demonstrations")
    checks.at_least(1, episodes=episodes)
    checks.at_least(0, every=every)
    checks.at_least(2 if every else 1, horizon=horizon)
    checks.not_negative(noise=noise)
    env = known.environment(environment)
    steps = env.steps + horizon * max(every, 1)
    shown = _shown(env, split, episodes, steps, noise, seed)
    kept = np.flatnonzero(shown.success)
    if not len(kept):
        raise ValueError(f"environment={environment!r}: the expert succeeds in no episode")
    units = (("environment", environment),)
    pieces = lambda a, length, step=1: np.concatenate(
        [_windows(a[k], length)[: shown.length[k], ::step] for k in kept]
    )
    observed = pieces(shown.observations, 1)[:, 0]
    if every:
        states = pieces(shown.observations[..., : env.moving], every * (horizon - 1) + 1, every)
        x = plans.written(env, states, pieces(shown.actions, every * (horizon - 1)))
        units = (*units, ("every", every))
    else:
        x = np.asarray(env.relative(observed, pieces(shown.actions, horizon)))
    return Memory(x, kind="trajectory", cond={"vector": observed}, units=units)


def _windows(a: np.ndarray, length: int) -> np.ndarray:
    """Return the windows (T + 1 - length, length, ...) of an array (T, ...)."""
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(a, length, 0), -1, 1)


def _shown(
    env: known.Environment, split: str, episodes: int, steps: int, noise: float, seed: int
) -> known.Demonstrations:
    """Return the episodes as arrays of NumPy, computed on the CPU, so that all machines agree."""
    act = functools.partial(known.demonstrate, env, steps=steps, noise=noise)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        keys = jax.random.split(stream(seed, f"demonstrations {split}"), episodes)
        return jax.tree.map(np.asarray, jax.jit(act)(keys))
