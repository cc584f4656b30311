"""Averages of parameters: the profile that each decay makes."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.training.ema import EMAS, Constant, Power, update


def decays(ema, n):
    return np.asarray(jax.jit(jax.vmap(ema))(jnp.arange(n)), np.float64)


def profile(ema, n):
    """The weight of the parameters of each of n steps in the average after them."""
    d = decays(ema, n)
    after = np.append(np.cumprod(d[::-1])[::-1][1:], 1.0)
    return (1 - d) * after


@pytest.mark.parametrize("std", [0.05, 0.1, 0.2, 0.28])
@pytest.mark.parametrize("n", [2000, 8000])
@pytest.mark.fast
def test_power_has_the_width_of_its_name(std, n):
    """T26: `std` would not be the width of the average relative to the training so far."""
    weights, t = profile(Power(std), n), np.arange(1, n + 1) / n
    assert weights.sum() == pytest.approx(1, rel=1e-3)
    mean = weights @ t
    assert np.sqrt(weights @ (t - mean) ** 2) == pytest.approx(std, rel=0.01)


@pytest.mark.parametrize("gamma", [0.5, 6.94, 16.97])
def test_power_solves_for_gamma(gamma):
    """The cubic of arXiv:2312.02696, eq. 123, would be solved for another root."""
    std = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
    assert Power(std).gamma == pytest.approx(gamma, rel=1e-9)


def test_power_forgets_the_initial_parameters():
    """Random parameters would stay in the average."""
    assert decays(Power(0.1), 1)[0] == 0


@pytest.mark.fast
def test_constant_reaches_its_decay_through_the_warm_up():
    """Early steps would dominate the average, or the decay never be reached.

    n updates from 1 towards 0 leave the product of (1 + t) / (10 + t), which is
    1 / binomial(n + 9, 9).
    """
    ema, n = Constant(0.9999), 12
    average = {"a": {"w": jnp.ones(3)}}
    for step in range(n):
        average = update(average, {"a": {"w": jnp.zeros(3)}}, ema(jnp.asarray(step)))
    left = 1 / math.comb(n + 9, 9)
    chex.assert_trees_all_close(average, {"a": {"w": jnp.full(3, left)}}, rtol=1e-5)
    d = decays(Constant(0.99), 2000)
    assert (np.diff(d) >= 0).all() and d[0] == pytest.approx(0.1)
    np.testing.assert_allclose(d[891:], 0.99, rtol=1e-6)
    assert (d[:890] < 0.99).all()


@pytest.mark.parametrize("name", EMAS)
@pytest.mark.fast
def test_every_average_is_an_average(name):
    """Constant parameters would drift, or weights be negative."""
    ema = EMAS[name]()
    d = decays(ema, 500)
    assert ((d >= 0) & (d < 1)).all()
    params = {"w": jnp.full(2, 3.0)}
    for step in (0, 5, 400):
        chex.assert_trees_all_close(update(params, params, ema(jnp.asarray(step))), params)
    assert EMAS[name]() == EMAS[name]() and hash(EMAS[name]()) == hash(EMAS[name]())


def test_update_is_weighted_by_the_decay():
    """The average would be of the new parameters with the old one's weight."""
    average = update({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, jnp.asarray(0.75))
    np.testing.assert_allclose(average["w"], 0.25)


@pytest.mark.parametrize("bad", [-0.1, 1.0, float("nan")])
def test_bad_decay_is_refused_by_name(bad):
    """The average would never move, or explode."""
    with pytest.raises(ValueError, match=rf"decay={bad}: needs 0 <= decay < 1"):
        Constant(bad)


@pytest.mark.parametrize("bad", [0.0, -0.1, 0.29, float("nan")])
def test_bad_std_is_refused_by_name(bad):
    """There is no profile of that width: gamma would be negative or complex."""
    with pytest.raises(ValueError, match=rf"std={bad}: needs 0 < std < 0.2887"):
        Power(bad)
