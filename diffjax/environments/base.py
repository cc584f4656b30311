"""The interface of an environment: states, actions and observations of one episode."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

State = Any
"""The state of an episode, a NamedTuple of arrays."""
Observation = Float[Array, " o"]
Action = Float[Array, " a"]
Vector = Float[Array, " n"]
STEP, SPRING, DAMPING = 0.1, 28.0, 7.0
"""Seconds of a step; force per distance from the target and per speed, of a unit mass."""


@dataclass(frozen=True)
class Environment(abc.ABC):
    """Pure functions of the state of one episode; `jax.vmap` runs many episodes.

    observation, action: numbers of values of an observation and of an action, which have about unit
    range. steps: the length of the longest episode. groups: names of the groups of episodes for
    which success is counted apart. scale: the size of a chunk of actions, which are points; see
    `relative`. moving: the number of values of the state of what moves, with which an observation
    begins; the first of them are the place that actions are measured from.

    >>> import jax
    >>> from diffjax.environments import Maze
    >>> maze = Maze()
    >>> state = maze.reset(jax.random.key(0))
    >>> maze.observe(maze.step(state, state.position)).shape
    (30,)
    """

    observation: ClassVar[int]
    action: ClassVar[int]
    moving: ClassVar[int]
    steps: ClassVar[int]
    groups: ClassVar[tuple[str, ...]] = ("all",)
    scale: ClassVar[float] = 0.4

    def relative(self, observation: Any, actions: Any) -> Any:
        """Return chunks of actions (..., h, a) as a network sees them, of about unit variance.

        They are measured from the place in the observations (..., o), in units of `scale`.

        >>> from diffjax.environments import Maze
        >>> chunk = Maze().relative(jnp.full(6, 0.2), jnp.full((3, 2), 0.4))
        >>> chunk.round(3)[0].tolist()
        [0.5, 0.5]
        """
        return (actions - observation[..., None, : self.action]) / self.scale

    def absolute(self, observation: Any, chunk: Any) -> Any:
        """Return chunks of a network as actions: the inverse of `relative`."""
        return observation[..., None, : self.action] + self.scale * chunk

    @abc.abstractmethod
    def reset(self, key: Key[Array, ""]) -> State:
        """Draw the first state."""

    @abc.abstractmethod
    def step(self, state: State, action: Action) -> State:
        """Return the next state."""

    @abc.abstractmethod
    def observe(self, state: State) -> Observation:
        """Return the observation, on which a policy depends."""

    def arrival(self, observations: Any) -> Any:
        """Return the state at rest at the goal (..., s), which observations (..., o) determine.

        Raises ValueError where they do not.
        """
        raise ValueError(f"{type(self).__name__}: its goal is no single state; needs `arrival`")

    @abc.abstractmethod
    def succeeded(self, state: State) -> Bool[Array, ""]:
        """Return whether the goal is reached, which ends the episode."""

    @abc.abstractmethod
    def failed(self, state: State) -> Bool[Array, ""]:
        """Return whether the episode has ended without success."""

    @abc.abstractmethod
    def group(self, state: State) -> Int[Array, ""]:
        """Return the index in `groups` of the episode that starts in this state."""

    @abc.abstractmethod
    def intent(self, key: Key[Array, ""], state: State) -> Any:
        """Return what the expert intends in the first state, an array."""

    @abc.abstractmethod
    def expert(self, key: Key[Array, ""], state: State, intent: Any) -> tuple[Action, Any]:
        """Return the action of the expert, and its next intent."""


def pulled(
    position: Vector, velocity: Vector, target: Vector, reach: float
) -> tuple[Vector, Vector]:
    """Return the position and the velocity of a unit mass after a step of a damped spring.

    The spring pulls towards the target, with a force that grows no more beyond the distance
    `reach`. It is the semi-implicit Euler method with a step of STEP seconds.

    >>> position, velocity = pulled(jnp.zeros(2), jnp.zeros(2), jnp.ones(2), reach=5.0)
    >>> velocity.round(3).tolist(), position.round(3).tolist()
    ([2.800..., 2.800...], [0.280..., 0.280...])
    """
    pull = clipped(target - position, reach)
    velocity = velocity + STEP * (SPRING * pull - DAMPING * velocity)
    return position + STEP * velocity, velocity


def waves(place: Vector) -> Vector:
    """Return sines, then cosines of a place (n,) of the periods 2, 1 and 1 / 2, (6 n,).

    By these a network tells places apart that are near each other.

    >>> waves(jnp.array([0.5])).round(3).tolist()
    [1.0, -0.0, 0.0, -0.0, -1.0, 1.0]
    """
    angle = (jnp.pi * jnp.array([1.0, 2.0, 4.0])[:, None] * place[None]).ravel()
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)])


def clipped(vector: Vector, most: float) -> Vector:
    """Return a vector shortened to the length `most` if it is longer.

    >>> clipped(jnp.array([3.0, 4.0]), 1.0).round(3).tolist()
    [0.600..., 0.800...]
    """
    length = jnp.linalg.norm(vector)
    return vector * jnp.minimum(1, most / jnp.maximum(length, 1e-12))
