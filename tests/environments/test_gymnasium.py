"""Episodes in environments of Gymnasium: the same as those of the same environment here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.environments import Maze, episodes
from diffjax.environments.gymnasium import gymnasium_episodes

MAZE = Maze(("#####", "#...#", "#.#.#", "#...#", "#####"), apart=1)


class OnHost:
    """The maze with the interface of Gymnasium, whose reward is the first coordinate.

    The episode of a seed is that of `episodes` for the key of the seed.
    """

    def __init__(self):
        ends = lambda state: jnp.stack([MAZE.succeeded(state), MAZE.failed(state)])
        both = lambda state, action: (after := MAZE.step(state, action), ends(after))
        self._step, self._observe = jax.jit(both), jax.jit(MAZE.observe)

    def reset(self, seed):
        self._state, self._count = MAZE.reset(jax.random.fold_in(jax.random.key(seed), 0)), 0
        return {"seen": np.asarray(self._observe(self._state))}, {}

    def step(self, action):
        self._state, (won, lost) = self._step(self._state, jnp.asarray(action))
        self._count += 1
        seen = {"seen": np.asarray(self._observe(self._state))}
        return seen, float(seen["seen"][0]), bool(won | lost), self._count >= MAZE.steps, {
            "is_success": bool(won)
        }  # fmt: skip


def to_goal(observations, _):
    """Return chunks that pull straight to the goal."""
    return jnp.repeat(observations[:, None, 4:6], 8, 1)


def test_episodes_on_the_host_are_those_of_the_compiled_program():
    """Actions would be lost between chunks, or an episode go on after its end."""
    keys = jax.vmap(jax.random.key)(jnp.arange(3, 8))
    compiled = jax.jit(lambda keys: episodes(MAZE, to_goal, keys, execute=5))(keys)
    seen = lambda observation: observation["seen"]
    host = gymnasium_episodes(OnHost, to_goal, num=5, execute=5, observe=seen, seed=3)
    np.testing.assert_array_equal(host.success, compiled.success)
    np.testing.assert_array_equal(host.length, compiled.length)
    assert host.success.any() and not host.success.all()
    assert (host.best <= 1).all() and (host.reward <= host.best * host.length + 1e-6).all()


@pytest.mark.parametrize("name", ["num", "execute"])
def test_no_episodes_are_refused(name):
    counts = {"num": 1, "execute": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}=0"):
        gymnasium_episodes(OnHost, to_goal, num=counts["num"], execute=counts["execute"])


@pytest.mark.thorough
def test_a_policy_runs_in_push_t():
    """The extra `policies` would not fit the adapter. Pushing at the block's centre moves it."""
    pytest.importorskip("gym_pusht")
    gymnasium = pytest.importorskip("gymnasium")
    to_block = lambda observations, _: jnp.repeat(observations[:, None, 2:4], 8, 1)
    make = lambda: gymnasium.make("gym_pusht/PushT-v0", max_episode_steps=40)
    ended = gymnasium_episodes(make, to_block, num=2, execute=4)
    assert (ended.length <= 40).all() and not ended.success.any()
    assert (ended.best >= 0).all() and (ended.best <= 1).all()
