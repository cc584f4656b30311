"""Plans: episodes as rows of a state and the actions that led to it, which a network samples whole.

A plan of h rows has a state every `every` steps. Its values are those of a network: the state
divided by the `scale` of the environment, then the `every` actions of the steps before it, measured
from the place in this state as in `Environment.relative`. The first row has no actions before it,
and zeros stand for them.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from diffjax.environments.base import Environment


def width(environment: Environment, every: int) -> int:
    """Return the number of values of a row.

    >>> from diffjax.environments import Maze
    >>> width(Maze(), every=2)  # place and velocity, and two actions of two values
    8
    """
    return environment.moving + every * environment.action


def written(environment: Environment, states: Any, actions: Any) -> np.ndarray:
    """Return plans (N, h, w) of states (N, h, s) and the actions (N, (h - 1) every, a) between.

    >>> from diffjax.environments import Maze
    >>> states = np.array([[[0.0, 0, 0, 0], [0.2, 0, 0.4, 0]]])
    >>> written(Maze(), states, np.full((1, 2, 2), 0.4)).round(6).tolist()
    [[[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0, 0.5, 1.0, 0.5, 1.0]]]
    """
    states, actions = np.asarray(states, np.float32), np.asarray(actions, np.float32)
    count, rows = states.shape[:2]
    size = environment.action
    each = actions.reshape(count, rows - 1, -1, size)
    led = (each - states[:, 1:, None, :size]).reshape(count, rows - 1, -1)
    led = np.concatenate([np.zeros_like(led[:, :1]), led], 1)
    return np.concatenate([states, led], -1) / np.float32(environment.scale)


def actions(environment: Environment, plans: Any) -> Any:
    """Return the actions (N, (h - 1) every, a) of plans (N, h, w): those before all rows but one.

    >>> from diffjax.environments import Maze
    >>> plan = written(Maze(), np.zeros((1, 3, 4)), np.arange(8.0).reshape(1, 4, 2))
    >>> actions(Maze(), plan)[0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    """
    size = environment.action
    led = plans[:, 1:, environment.moving :].reshape(*plans[:, 1:].shape[:2], -1, size)
    each = environment.scale * (led + plans[:, 1:, None, :size])
    return each.reshape(len(plans), -1, size)


def ends(environment: Environment, observations: Any, every: int) -> Any:
    """Return the first and the last rows (2, N, w) of plans from observations (N, o) to the goal.

    Raises ValueError for an environment that has no single state at the goal.

    >>> from diffjax.environments import Maze
    >>> first, last = ends(Maze(), jnp.array([[0.0, 0.2, 0.4, 0.0, -0.4, 0.4]]), every=1)
    >>> first.tolist(), last.tolist()
    ([[0.0, 0.5, 1.0, 0.0, 0.0, 0.0]], [[-1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    """
    states = observations[:, : environment.moving], environment.arrival(observations)
    more = jnp.zeros((len(observations), every * environment.action))
    rows = [jnp.concatenate([state / environment.scale, more], -1) for state in states]
    return jnp.stack(rows)
