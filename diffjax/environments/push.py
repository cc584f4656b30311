"""A disc that pushes a block to a goal, and an expert that walks around the block first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax import checks
from diffjax.environments.base import Action, Environment, Observation, clipped, pulled

REACH, AROUND, TURN = 0.25, 1.35, 0.6
"""The largest distance at which a target pulls more; the radius, in contact distances, at which the
expert walks around the block, and the angle by which its target is ahead."""
BEHIND, FORK, DEPTH = 0.3, 2.2, 0.12
"""Angles between the place of the disc, seen from the block, and the place behind the block: up to
`BEHIND` the expert pushes, beyond `FORK` both ways around are fair. The depth of its targets in the
block while it pushes."""


class State(NamedTuple):
    """The state of an episode: position and velocity of the disc, block and goal, (2,) each."""

    position: Float[Array, " 2"]
    velocity: Float[Array, " 2"]
    block: Float[Array, " 2"]
    goal: Float[Array, " 2"]


@dataclass(frozen=True)
class Push(Environment):
    """A disc, pulled to a target by a damped spring, that must push a round block to a goal.

    An action is the target, a point in the plane. An observation holds the position and velocity of
    the disc, the block and the goal, (8,). The block moves along the line of both centres, as far
    as the disc would enter it, and stays where it is otherwise. Success is a block within
    `tolerance` of the goal; a block outside of [-1, 1]^2 is a failure. Episodes that begin with the
    disc in front of the block, so that both ways around it are equally good, are counted apart.

    contact: the distance of the centres in contact. tolerance: the largest distance of success.
    Raises ValueError unless both are positive and contact is at most 0.3.

    >>> push = Push()
    >>> state = push.reset(jax.random.key(0))
    >>> push.observe(state).shape, bool(push.succeeded(state))
    ((8,), False)
    """

    observation: ClassVar[int] = 8
    action: ClassVar[int] = 2
    moving: ClassVar[int] = 6
    steps: ClassVar[int] = 64
    groups: ClassVar[tuple[str, ...]] = ("one way", "forks")
    contact: float = 0.25
    tolerance: float = 0.05

    def __post_init__(self):
        checks.positive(contact=self.contact, tolerance=self.tolerance)
        checks.within(0, 0.3, contact=self.contact)

    def reset(self, key: Key[Array, ""]) -> State:
        """Draw block and goal in [-0.5, 0.5]^2, at least 0.3 apart, and the disc beside the block.

        The disc is 1.2 to 1.8 contact distances from the block.
        """
        first, second, third, fourth = jax.random.split(key, 4)
        block = jax.random.uniform(first, (2,), minval=-0.5, maxval=0.5)
        goals = jax.random.uniform(second, (16, 2), minval=-0.5, maxval=0.5)
        far = jnp.linalg.norm(goals - block[None], axis=-1) >= 0.3
        goal = goals[jnp.argmax(far)]
        angle = jax.random.uniform(third, minval=-jnp.pi, maxval=jnp.pi)
        away = jax.random.uniform(fourth, minval=1.2, maxval=1.8) * self.contact
        return State(block + away * direction(angle), jnp.zeros(2), block, goal)

    def step(self, state: State, action: Action) -> State:
        position, velocity = pulled(state.position, state.velocity, action, REACH)
        apart = state.block - position
        length = jnp.maximum(jnp.linalg.norm(apart), 1e-6)
        push = jnp.maximum(self.contact - length, 0)
        return state._replace(
            position=position, velocity=velocity, block=state.block + push * apart / length
        )

    def observe(self, state: State) -> Observation:
        return jnp.concatenate([state.position, state.velocity, state.block, state.goal])

    def succeeded(self, state: State) -> Bool[Array, ""]:
        return jnp.linalg.norm(state.block - state.goal) < self.tolerance

    def failed(self, state: State) -> Bool[Array, ""]:
        return (jnp.abs(state.block) > 1).any()

    def group(self, state: State) -> Int[Array, ""]:
        return (jnp.abs(self.turn(state)) > FORK).astype(jnp.int32)

    def turn(self, state: State) -> Float[Array, ""]:
        """Return the angle around the block from the disc to the place behind the block."""
        away, ahead = state.position - state.block, state.goal - state.block
        return wrapped(angle_of(-ahead) - angle_of(away))

    def intent(self, key: Key[Array, ""], state: State) -> Float[Array, ""]:
        """Return the side on which the expert walks around the block, -1 or 1."""
        turn, fair = self.turn(state), jax.random.bernoulli(key)
        return jnp.where(jnp.abs(turn) > FORK, jnp.where(fair, 1.0, -1.0), jnp.sign(turn))

    def expert(self, key: Key[Array, ""], state: State, intent: Any) -> tuple[Action, Any]:
        """Return a target ahead on the way around the block, or in the block from behind it."""
        turn = self.turn(state)
        intent = jnp.where(jnp.abs(turn) > FORK, intent, jnp.sign(turn))
        left = jnp.where(jnp.sign(turn) == intent, jnp.abs(turn), 2 * jnp.pi - jnp.abs(turn))
        angle = angle_of(state.position - state.block) + intent * jnp.minimum(left, TURN)
        around = state.block + AROUND * self.contact * direction(angle)
        ahead = state.goal - state.block
        length = jnp.maximum(jnp.linalg.norm(ahead), 1e-6)
        inside = self.contact - jnp.minimum(DEPTH, length)
        behind = state.block - inside * ahead / length
        target = jnp.where(jnp.abs(turn) < BEHIND, behind, around)
        return state.position + clipped(target - state.position, REACH), intent


def direction(angle: Float[Array, ""]) -> Float[Array, " 2"]:
    """Return the unit vector of an angle."""
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def angle_of(vector: Float[Array, " 2"]) -> Float[Array, ""]:
    """Return the angle of a vector."""
    return jnp.arctan2(vector[1], vector[0])


def wrapped(angle: Float[Array, ""]) -> Float[Array, ""]:
    """Return the angle in [-pi, pi)."""
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi
