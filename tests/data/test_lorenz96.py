"""Lorenz-96 against its conservation law, a fine integration, and the exact law of one step."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from diffjax.data import lorenz96
from diffjax.data.lorenz96 import STEP, Ring

RING = Ring(forcing=8.0, noise=1.0)


def states(num, width=40):
    return 2 + 3 * np.random.default_rng(0).normal(size=(num, width))


def test_the_quadratic_terms_keep_the_energy_and_a_turn_of_the_ring_turns_the_drift():
    """Another neighbour in the formula would be another system."""
    x = states(5)
    energy = (x * RING.drift(x)).sum(-1)
    np.testing.assert_allclose(energy, (8.0 * x - x**2).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(RING.drift(np.roll(x, 7, -1)), np.roll(RING.drift(x), 7, -1))
    x = np.zeros(40)
    x[10], x[11], x[8] = 2.0, 5.0, 1.0
    assert RING.drift(x)[10] == -2.0 + 8.0  # its left neighbour is 0
    x[9] = 3.0
    assert RING.drift(x)[10] == (5.0 - 1.0) * 3.0 - 2.0 + 8.0


def test_a_step_without_noise_follows_the_flow_to_fourth_order():
    x = states(1)[0]
    flow = lambda span: solve_ivp(
        lambda _, y: RING.drift(y), (0, span), x, rtol=1e-11, atol=1e-11
    ).y[:, -1]
    error = np.abs(RING(x, np.zeros(40)) - flow(STEP)).max()
    moved = np.abs(flow(STEP) - x).max()
    assert error < 1e-3 * moved
    euler = np.abs(x + STEP * RING.drift(x) - flow(STEP)).max()
    assert error < 0.02 * euler


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_pairs_one_step_apart_have_the_normal_law_of_a_step(noise):
    """A forecast would be compared with an ensemble of another system than that of the data."""
    source = lorenz96("test", size=10_000, lead=1, noise=noise)
    items, scale = source[np.arange(len(source))], dict(source.form.units)
    now, later = (np.float64(items[k][..., 0]) * scale["std"] + scale["mean"] for k in ("map", "x"))
    z = (later - source.ring(now, np.zeros_like(now))) / (noise * np.sqrt(STEP))
    assert abs(z.mean()) < 4 / np.sqrt(z.size) and abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    true = np.float64(source.ensemble(np.array([3]), 2000)[..., 0]) * scale["std"] + scale["mean"]
    z = (true - source.ring(now[3:4], np.zeros((1, 40)))) / (noise * np.sqrt(STEP))
    assert np.abs(z.mean((0, 1))).max() < 5 / np.sqrt(2000)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)


def test_states_are_normalised_and_trajectories_are_not_shared():
    """Held-out pairs would continue trajectories of the training, or have other units."""
    train, test = (lorenz96(split, size=2000) for split in ("train", "test"))
    assert train.form == test.form and train.form.units == test.form.units
    assert dict(train.form.units)["std"] == pytest.approx(3.7, abs=0.2)
    x = train[np.arange(len(train))]
    assert abs(x["map"].mean()) < 1e-4 and x["map"].std() == pytest.approx(1, abs=1e-4)
    assert (len(train), len(test)) == (2000, 200)
    y = test[np.arange(len(test))]["map"]
    apart = ((x["map"][:, None, :, 0] - y[None, :, :, 0]) ** 2).mean(-1)
    assert apart.min() > 0.1


def test_settings_that_make_no_system_are_refused():
    for settings, part in [
        ({"width": 3}, "width=3"),
        ({"noise": -1.0}, "noise=-1"),
        ({"lead": 0}, "lead=0"),
        ({"forcing": 0.0, "noise": 0.0}, "allowed: chaotic systems"),
    ]:
        with pytest.raises(ValueError, match=part):
            lorenz96("train", size=100, **settings)
