"""Pushing: contact without friction, symmetries of the plane, and an expert that goes around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.environments import Push
from diffjax.environments.push import State, wrapped

PUSH = Push()


def at(position, block=(0.0, 0.0), goal=(0.5, 0.0), velocity=(0.0, 0.0)) -> State:
    place = lambda a: jnp.asarray(a, jnp.float32)
    return State(place(position), place(velocity), place(block), place(goal))


def test_the_block_moves_out_of_the_disc_along_the_line_of_the_centres():
    """The disc could enter the block, or drag it along."""
    state = at((-0.3, 0.05))
    for _ in range(6):
        after = PUSH.step(state, jnp.array([0.3, 0.0]))
        apart = np.asarray(after.block - after.position)
        moved = np.asarray(after.block - state.block)
        assert np.linalg.norm(apart) >= PUSH.contact - 1e-6
        if np.linalg.norm(moved) > 0:
            np.testing.assert_allclose(np.linalg.norm(apart), PUSH.contact, atol=1e-6)
            np.testing.assert_allclose(moved[0] * apart[1], moved[1] * apart[0], atol=1e-7)
            assert moved @ apart > 0
        state = after
    assert state.block[0] > 0.05 and state.block[1] < 0  # pushed from above its centre
    still = PUSH.step(at((-0.3, 0.0), velocity=(0.5, 0.0)), jnp.array([-0.6, 0.0]))
    np.testing.assert_array_equal(still.block, [0, 0])


def test_a_turned_scene_gives_turned_steps_and_a_turned_expert():
    """The expert or the contact would prefer a direction of the plane."""
    c, s = np.cos(0.7), np.sin(0.7)
    turn = lambda a: jnp.asarray(np.array([[c, -s], [s, c]]) @ np.asarray(a), jnp.float32)
    for place in ((-0.26, 0.02), (0.2, 0.25), (-0.1, -0.4)):
        state = at(place, velocity=(0.1, -0.2))
        turned = State(*map(turn, state))
        action, way = PUSH.expert(jax.random.key(0), state, jnp.asarray(1.0))
        again, same = PUSH.expert(jax.random.key(0), turned, jnp.asarray(1.0))
        np.testing.assert_allclose(again, turn(action), atol=1e-6)
        assert way == same
        for a, b in zip(PUSH.step(turned, turn(action)), PUSH.step(state, action), strict=True):
            np.testing.assert_allclose(a, turn(b), atol=1e-6)


def test_in_front_of_the_block_both_ways_are_fair_and_elsewhere_the_shorter_is_taken():
    """The data would not have both modes, or the expert walk the long way."""
    keys = jax.random.split(jax.random.key(0), 1000)
    sides = jax.vmap(PUSH.intent, (0, None))(keys, at((0.4, 0.1)))
    assert PUSH.group(at((0.4, 0.1))) == 1 and PUSH.group(at((-0.3, 0.3))) == 0
    assert set(np.unique(sides)) == {-1, 1} and abs(np.mean(sides)) < 4 / 1000**0.5
    assert PUSH.intent(keys[0], at((-0.3, 0.3))) == 1  # counter-clockwise to (-0.25, 0)
    assert PUSH.intent(keys[0], at((-0.3, -0.3))) == -1


def test_success_and_failure_depend_on_the_block_alone():
    assert PUSH.succeeded(at((0, 0), block=(0.46, 0.0)))
    assert not PUSH.succeeded(at((0.5, 0.0), block=(0.44, 0.0)))
    assert PUSH.failed(at((0, 0), block=(0.0, -1.1)))
    assert not PUSH.failed(at((1.2, 0), block=(0.0, -0.9)))
    np.testing.assert_allclose(wrapped(jnp.array([3.5])), 3.5 - 2 * np.pi, atol=1e-6)


@pytest.mark.parametrize("settings", [{"contact": 0.0}, {"contact": 0.4}, {"tolerance": -1.0}])
def test_discs_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Push(**settings)
