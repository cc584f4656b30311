"""The maze: its graph, its mechanics, and an expert that takes every shortest path."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.environments import ENVIRONMENTS, Maze, environment
from diffjax.environments.base import DAMPING, SPRING, STEP
from diffjax.environments.maze import LAYOUT, RADIUS, State, tables

MAZE = Maze()
GRAPH = MAZE.graph
CORNERS = 0, len(GRAPH.centres) - 1


def at(position, velocity=(0.0, 0.0), start: int = 0, goal: int = CORNERS[1]) -> State:
    """Return a state of an episode between these cells."""
    p, v = (jnp.asarray(a, jnp.float32) for a in (position, velocity))
    return State(p, v, jnp.asarray(start), jnp.asarray(goal), jnp.zeros((), bool))


def test_shortest_paths_are_those_of_powers_of_the_adjacency_matrix():
    """A wrong graph would send the expert through walls, or call forks what is none."""
    apart = np.abs(GRAPH.centres[:, None] - GRAPH.centres).sum(-1) / GRAPH.side
    adjacent = (np.round(apart, 6) == 1).astype(int)
    power, left = np.eye(len(adjacent), dtype=int), np.full(adjacent.shape, -1)
    paths = np.zeros_like(adjacent)
    for steps in range(len(adjacent)):
        new = (left < 0) & (power > 0)
        left[new], paths[new] = steps, power[new]
        power = power @ adjacent
    np.testing.assert_array_equal(GRAPH.distance, left)
    np.testing.assert_array_equal(GRAPH.paths, paths)
    assert paths.max() == 6 and (paths == 1).sum() > 100


def test_the_cells_lie_where_the_layout_shows_them():
    """The maze would be mirrored or turned in pictures."""
    cells = [(r, c) for r, row in enumerate(LAYOUT) for c, char in enumerate(row) if char == "."]
    expected = [((c - 4) * 2 / 9, (3 - r) * 2 / 9) for r, c in cells]
    np.testing.assert_allclose(GRAPH.centres, expected, atol=1e-12)


def test_a_target_pulls_as_a_damped_spring():
    """The mass would not move by the equation of the docstring."""
    state, target = at((0.0, 0.0), (0.1, -0.2)), np.array([0.1, 0.05])
    p, v = np.zeros(2), np.array([0.1, -0.2])
    for _ in range(5):
        state = MAZE.step(state, jnp.asarray(target, jnp.float32))
        v = v + STEP * (SPRING * (target - p) - DAMPING * v)
        p = p + STEP * v
        np.testing.assert_allclose(state.position, p, atol=1e-6)
        np.testing.assert_allclose(state.velocity, v, atol=1e-5)
    far = MAZE.step(at((0.0, 0.0)), jnp.array([50.0, 0.0])).velocity
    np.testing.assert_allclose(far, [STEP * SPRING * GRAPH.side, 0], rtol=1e-6)


def test_the_mass_touches_a_wall_at_its_radius():
    """A policy could cut corners, or crash in the open."""
    side, corner = GRAPH.side, GRAPH.centres[0]  # walls on the left and above
    for axis, sign in ((0, -1), (1, 1)):
        shift = np.eye(2)[axis] * sign * side * (0.5 - RADIUS)
        near, hit = (corner + shift * share for share in (0.99, 1.01))
        assert not MAZE.touches(jnp.asarray(near, jnp.float32))
        assert MAZE.touches(jnp.asarray(hit, jnp.float32))
    pillar = GRAPH.centres[0] + np.array([0.5, -0.5]) * side  # the corner of an inner wall
    for share, touched in ((0.98, True), (1.02, False)):
        away = RADIUS * side * share / 2**0.5
        place = jnp.asarray(pillar + np.array([-away, away]), jnp.float32)
        assert bool(MAZE.touches(place)) == touched


def test_a_crash_ends_the_episode_for_good():
    """A policy could pass through a wall and succeed behind it."""
    goal = jnp.asarray(GRAPH.centres[CORNERS[1]], jnp.float32)
    assert MAZE.succeeded(at(goal)) and not MAZE.failed(at(goal))
    crashed = MAZE.step(at(goal)._replace(crashed=jnp.ones((), bool)), goal)
    assert MAZE.failed(crashed) and not MAZE.succeeded(crashed)


def test_the_expert_chooses_fairly_among_shortest_paths():
    """The data would not have both modes, and a regression would do as well."""
    keys = jax.random.split(jax.random.key(0), 1000)
    state = at(GRAPH.centres[0])
    cell = jax.vmap(lambda key: MAZE.expert(key, state, state.start)[1])(keys)
    right, down = (np.asarray(cell) == k for k in (1, 7))
    assert (right | down).all() and abs(right.mean() - 0.5) < 4 * 0.5 / 1000**0.5
    action, stays = MAZE.expert(keys[0], at(GRAPH.centres[-1]), jnp.asarray(CORNERS[1]))
    assert stays == CORNERS[1]
    np.testing.assert_allclose(action, GRAPH.centres[-1], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": ("###", "#.#", "####")}, "of one length, with '#' all around"),
        ({"layout": ("####", "#...", "####")}, "with '#' all around"),
        ({"layout": ("#####", "#.#.#", "#####")}, "some open cells are not connected"),
        ({"apart": 9}, "apart=9: needs at most 5 in this layout"),
        ({"apart": 0}, "apart=0"),
    ],
)
def test_mazes_without_a_way_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Maze(**settings)


def test_unknown_environments_are_refused_with_the_known_ones():
    assert [type(environment(name)) for name in ENVIRONMENTS] == [*ENVIRONMENTS.values()]
    with pytest.raises(ValueError, match=r"mase.*known: maze, push"):
        environment("mase")


def test_graphs_of_equal_layouts_are_one():
    """Each mention of the maze would compute its graph again."""
    assert all(a is b for a, b in itertools.pairwise([Maze().graph, GRAPH, tables(LAYOUT)]))
