"""A point mass in a maze with forks, and an expert that takes one of the shortest paths."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax import checks
from diffjax.environments.base import Action, Environment, Observation, clipped, pulled, waves

LAYOUT = (
    "#########",
    "#.......#",
    "#.##.##.#",
    "#.......#",
    "#.##.##.#",
    "#.......#",
    "#########",
)
"""Walls `#` and open cells `.` of the default maze, in which most ways fork."""
RADIUS, START, NEAR, LEAD, REACH = 0.15, 0.2, 0.3, 0.6, 1.0
"""In cells: the radius of the point mass; the largest distance of a start from the centre of its
cell; the distance at which the expert turns to the next cell; the distance of its targets; and the
largest distance at which a target pulls more."""


class State(NamedTuple):
    """The state of an episode: position and velocity (2,), the cells of start and goal, the end.

    The maze lies in [-1, 1]^2. crashed: whether the mass has touched a wall.
    """

    position: Float[Array, " 2"]
    velocity: Float[Array, " 2"]
    start: Int[Array, ""]
    goal: Int[Array, ""]
    crashed: Bool[Array, ""]


class Tables(NamedTuple):
    """The graph of n open cells.

    centres, walls: the centres (n, 2) and (m, 2) of open cells and of walls. neighbours: (n, 4),
    the cell itself where there is a wall. distance: steps (n, n) between cells. paths: the number
    (n, n) of shortest paths. side: the length of a cell.
    """

    centres: np.ndarray
    walls: np.ndarray
    neighbours: np.ndarray
    distance: np.ndarray
    paths: np.ndarray
    side: float


@functools.lru_cache(16)
def tables(layout: tuple[str, ...]) -> Tables:
    """Return the graph of a layout; cells count row by row from the top left.

    >>> graph = tables(LAYOUT)
    >>> len(graph.centres), int(graph.distance.max()), int(graph.paths.max())
    (27, 10, 6)
    """
    height, width = len(layout), len(layout[0])
    side = 2 / max(height, width)
    grid = np.array([[char == "." for char in row] for row in layout])
    place = lambda at: (at[:, ::-1] - [(width - 1) / 2, (height - 1) / 2]) * [side, -side]
    cells = np.argwhere(grid)
    index = {(r, c): k for k, (r, c) in enumerate(cells.tolist())}
    moves = ((0, 1), (0, -1), (1, 0), (-1, 0))
    around = lambda r, c, k: [index.get((r + i, c + j), k) for i, j in moves]
    neighbours = np.array([around(*cell, k) for cell, k in index.items()])
    distance = np.full((len(cells),) * 2, -1)
    paths = np.eye(len(cells), dtype=int)
    np.fill_diagonal(distance, 0)
    for start in range(len(cells)):
        front = [start]
        for steps in range(1, len(cells)):
            near = {int(k) for cell in front for k in neighbours[cell]}
            new = [k for k in near if distance[start, k] < 0]
            for k in new:
                before = {int(i) for i in neighbours[k]} - {k}
                paths[start, k] = sum(paths[start, i] for i in before if i in front)
            distance[start, new], front = steps, new
    return Tables(place(cells), place(np.argwhere(~grid)), neighbours, distance, paths, side)


@dataclass(frozen=True)
class Maze(Environment):
    """A point mass, pulled to a target by a damped spring, that must reach the centre of a cell.

    An action is the target, a point in [-1, 1]^2. An observation holds the position, the velocity
    and the goal, then `waves` of position and goal, (30,). Touching a wall ends the episode;
    success is to come within half a cell of the goal. Start and goal are random cells at least
    `apart` steps of a cell apart. Episodes whose shortest path is unique and those with forks are
    counted apart.

    layout: rows of walls `#` and open cells `.`, with walls all around. Raises ValueError for
    another layout, for cells that are not connected, and where no two cells are so far apart.

    >>> maze = Maze()
    >>> state = maze.reset(jax.random.key(0))
    >>> bool(maze.succeeded(state)), bool(maze.failed(state))
    (False, False)
    """

    observation: ClassVar[int] = 30
    action: ClassVar[int] = 2
    moving: ClassVar[int] = 4
    steps: ClassVar[int] = 64
    groups: ClassVar[tuple[str, ...]] = ("one way", "forks")
    layout: tuple[str, ...] = LAYOUT
    apart: int = 4

    def __post_init__(self):
        checks.at_least(1, apart=self.apart)
        rows = self.layout
        lengths, chars = {len(row) for row in rows}, {*"".join(rows)}
        ends = [*rows[:1], *rows[-1:], *(row[:1] + row[-1:] for row in rows)]
        if len(lengths) != 1 or chars != {"#", "."} or "." in "".join(ends):
            raise ValueError(
                f"layout={rows}: needs rows of '#' and '.' of one length, with '#' all around"
            )
        distance = tables(rows).distance
        if (distance < 0).any():
            raise ValueError(f"layout={rows}: some open cells are not connected")
        if (distance < self.apart).all(1).any():
            most = int(distance.max(1).min())
            raise ValueError(f"apart={self.apart}: needs at most {most} in this layout")

    @property
    def graph(self) -> Tables:
        """The graph of the open cells."""
        return tables(self.layout)

    def reset(self, key: Key[Array, ""]) -> State:
        first, second, third = jax.random.split(key, 3)
        far = jnp.asarray(self.graph.distance >= self.apart)
        start = jax.random.randint(first, (), 0, len(far))
        goal = jax.random.categorical(second, jnp.where(far[start], 0.0, -jnp.inf))
        shift = jax.random.uniform(third, (2,), minval=-1, maxval=1) * START / 2**0.5
        position = jnp.asarray(self.graph.centres, jnp.float32)[start] + shift * self.graph.side
        return State(position, jnp.zeros(2), start, goal, jnp.zeros((), bool))

    def step(self, state: State, action: Action) -> State:
        reach = REACH * self.graph.side
        position, velocity = pulled(state.position, state.velocity, action, reach)
        return state._replace(
            position=position,
            velocity=velocity,
            crashed=state.crashed | self.touches(position),
        )

    def touches(self, position: Float[Array, " 2"]) -> Bool[Array, ""]:
        """Return whether a mass at this place (2,) touches a wall."""
        walls, side = jnp.asarray(self.graph.walls, jnp.float32), self.graph.side
        gap = jnp.maximum(jnp.abs(position[None] - walls) - side / 2, 0)
        return (jnp.square(gap).sum(-1) < (RADIUS * side) ** 2).any()

    def observe(self, state: State) -> Observation:
        goal = self._centre(state.goal)
        seen = state.position, state.velocity, goal, waves(state.position), waves(goal)
        return jnp.concatenate(seen)

    def arrival(self, observations: Any) -> Any:
        """Return the centre of the goal and the velocity 0, (..., 4)."""
        goal = observations[..., 4:6]
        return jnp.concatenate([goal, jnp.zeros_like(goal)], -1)

    def succeeded(self, state: State) -> Bool[Array, ""]:
        away = jnp.linalg.norm(state.position - self._centre(state.goal))
        return ~state.crashed & (away < self.graph.side / 2)

    def failed(self, state: State) -> Bool[Array, ""]:
        return state.crashed

    def group(self, state: State) -> Int[Array, ""]:
        return (jnp.asarray(self.graph.paths)[state.start, state.goal] > 1).astype(jnp.int32)

    def intent(self, key: Key[Array, ""], state: State) -> Int[Array, ""]:
        """Return the cell to which the expert moves, at first that of the start."""
        return state.start

    def expert(self, key: Key[Array, ""], state: State, intent: Any) -> tuple[Action, Any]:
        """Return a target towards a cell of a shortest path; each fork is a fair choice."""
        graph = self.graph
        near = jnp.linalg.norm(state.position - self._centre(intent)) < NEAR * graph.side
        distance, around = jnp.asarray(graph.distance), jnp.asarray(graph.neighbours)[intent]
        closer = distance[around, state.goal] < distance[intent, state.goal]
        chosen = around[jnp.argmax(jnp.where(closer, jax.random.uniform(key, (4,)), -1))]
        intent = jnp.where(near & closer.any(), chosen, intent)
        ahead = clipped(self._centre(intent) - state.position, LEAD * graph.side)
        return state.position + ahead, intent

    def _centre(self, cell: Int[Array, ""]) -> Float[Array, " 2"]:
        return jnp.asarray(self.graph.centres, jnp.float32)[cell]
