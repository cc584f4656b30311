"""WaveNet: dilated convolutions, and a receptive field that is known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like

from diffjax.nets import wavenet
from diffjax.nets.conditions import Map
from diffjax.nets.wavenet import near

DEPTH, CYCLE, LENGTH = 5, 3, 48
REACH = sum(2 ** (k % CYCLE) for k in range(DEPTH))
"""Positions on each side that an output depends on."""


@pytest.mark.parametrize("step", [1, 2, 4])
def test_layers_are_dilated_convolutions(step):
    """Taps would stand elsewhere than the paper's."""
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 16, 3), (3, 3, 5)))
    found = near(x, step) @ kernel.reshape(9, 5)
    layout = ("NWC", "WIO", "NWC")
    exact = jax.lax.conv_general_dilated(
        x, kernel, (1,), [(step, step)], rhs_dilation=(step,), dimension_numbers=layout
    )
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_an_output_depends_on_its_receptive_field_and_on_every_map_there():
    """Long sounds would be cut short of what the settings promise, or a condition go unread."""
    network = wavenet(channels=4, depth=DEPTH, cycle=CYCLE, conditions=(Map(2),))
    x, c_noise = jnp.zeros((1, LENGTH, 1)), jnp.ones(1)
    cond = {"map": jnp.zeros((1, LENGTH, 2))}
    params = random_like(jax.eval_shape(network.init, jax.random.key(0), x, c_noise, cond))

    def middle(x, known):
        out = network.apply(params, x, c_noise, {"map": known})
        assert isinstance(out, jax.Array)
        return out[0, LENGTH // 2, 0]

    of_x, of_map = jax.jit(jax.grad(middle, (0, 1)))(x + 0.1, cond["map"] + 0.1)
    there = np.flatnonzero(of_x[0, :, 0])
    assert (there[0], there[-1]) == (LENGTH // 2 - REACH, LENGTH // 2 + REACH)
    assert len(there) == 1 + 2 * REACH and (np.abs(of_map).sum((0, 1)) > 0).all()


def test_a_turn_of_the_ring_turns_the_output():
    """The ends of a circle would be treated as ends."""
    network = wavenet(channels=4, depth=3, cycle=3, periodic=True, conditions=(Map(1),))
    rng, c_noise = np.random.default_rng(0), jnp.ones(1)
    x, known = (jnp.asarray(rng.normal(size=(1, 6, 1)), jnp.float32) for _ in range(2))
    params = random_like(
        jax.eval_shape(network.init, jax.random.key(0), x, c_noise, {"map": known})
    )
    turned = lambda k: (jnp.roll(x, k, 1), c_noise, {"map": jnp.roll(known, k, 1)})
    of = lambda k: np.asarray(network.apply(params, *turned(k)))
    np.testing.assert_allclose(of(2), np.roll(of(0), 2, 1), atol=1e-5)


def test_other_items_and_settings_are_refused():
    init = wavenet(channels=4, depth=1).init
    with pytest.raises(ValueError, match=r"wavenet with input .*needs sequences \(B, L, C\)"):
        jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), jnp.ones(1), None)
    with pytest.raises(ValueError, match="cycle=0"):
        wavenet(cycle=0)
