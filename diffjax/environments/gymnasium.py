"""Policies in environments of Gymnasium, which run on the host, one episode at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax import checks
from diffjax.arrays import stream
from diffjax.environments.episodes import Policy


class HostEpisodes(NamedTuple):
    """The ends of N episodes on the host.

    success: (N,). reward: the sum of rewards (N,), and best: the largest reward (N,). length: steps
    (N,).
    """

    success: np.ndarray
    reward: np.ndarray
    best: np.ndarray
    length: np.ndarray


def gymnasium_episodes(
    make: Callable[[], Any],
    policy: Policy,
    *,
    num: int,
    execute: int,
    observe: Callable[[Any], np.ndarray] = np.ravel,
    seed: int = 0,
    success: Callable[[dict[str, Any]], bool] = lambda info: bool(info.get("is_success")),
) -> HostEpisodes:
    """Run episodes 0, ..., num - 1 of a policy in an environment of Gymnasium.

    The receding horizon of `episodes`. make: returns an environment with the interface of
    Gymnasium: `reset(seed=...) -> (observation, info)`, and `step(action) -> (observation, reward,
    terminated, truncated, info)`. policy: on observations (1, o). observe: what is observed, to the
    observation (o,) of the policy. success: the info of a step, to whether it succeeds; one such
    step suffices. Episode k is reset with seed + k. Raises ValueError for num or execute below 1.

    >>> class Counts:
    ...     def reset(self, seed):
    ...         self.count = 0
    ...         return np.zeros(1), {}
    ...     def step(self, action):
    ...         self.count += 1
    ...         done = self.count == 5
    ...         return np.full(1, self.count), 1.0, done, False, {"is_success": action[0] > 3}
    >>> policy = lambda observed, keys: observed[:, None].repeat(2, 1)
    >>> gymnasium_episodes(Counts, policy, num=1, execute=2).length.tolist()
    [5]
    """
    checks.at_least(1, num=num, execute=execute)
    rows, act = [], jax.jit(policy)
    environment = make()
    for k in range(num):
        seen, _ = environment.reset(seed=seed + k)
        key, rewards, won, over = stream(seed + k, "gymnasium"), [], False, False
        while not over:
            keys = jax.random.fold_in(key, len(rewards))[None]
            chunk = np.asarray(act(np.asarray(observe(seen), np.float32)[None], keys))[0]
            for action in chunk[:execute]:
                seen, reward, ended, cut, info = environment.step(action)
                rewards.append(float(reward))
                won, over = won or success(info), ended or cut
                if over:
                    break
        rows.append((won, sum(rewards), max(rewards), len(rewards)))
    return HostEpisodes(*map(np.array, zip(*rows, strict=True)))
