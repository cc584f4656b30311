"""Averages of parameters: the profile of each decay."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.training.ema import EMAS, Constant, HalfLife, Power, Warmup, update

pytestmark = pytest.mark.typed


def shares(ema, n, batch_size=1):
    made = jax.jit(jax.vmap(lambda step: ema(step, batch_size)))(jnp.arange(n))
    return np.asarray(made, np.float64)


def profile(ema, n, batch_size=1):
    """Return the weight of the parameters of each of n steps in the final average."""
    share = shares(ema, n, batch_size)
    after = np.append(np.cumprod((1 - share)[::-1])[::-1][1:], 1.0)
    return share * after


@pytest.mark.parametrize("std", [0.05, 0.1, 0.2, 0.28])
@pytest.mark.parametrize("n", [2000, 8000])
def test_power_has_the_width_of_its_name(std, n):
    """`std` would not be the width of the average relative to the training so far (T26)."""
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
    assert shares(Power(0.1), 1)[0] == 1


@pytest.mark.parametrize("step", [999, 99_999, 9_999_999])
def test_the_share_is_exact_late_in_training(step):
    """1 - decay in float32 would be off by a percent from step 500,000 on."""
    exact = -math.expm1((Power(0.1).gamma + 1) * math.log1p(-1 / (step + 1)))
    assert float(Power(0.1)(jnp.asarray(step), 1)) == pytest.approx(exact, rel=1e-5)


def test_constant_reaches_its_decay_through_the_warm_up():
    """Early steps would dominate the average, or the decay never be reached.

    n updates from 1 towards 0 leave the product of (1 + t) / (10 + t), which is 1 / binomial(n + 9,
    9).
    """
    ema, n = Constant(0.9999), 12
    average = {"a": {"w": jnp.ones(3)}}
    for step in range(n):
        average = update(average, {"a": {"w": jnp.zeros(3)}}, ema(jnp.asarray(step), 1))
    left = 1 / math.comb(n + 9, 9)
    chex.assert_trees_all_close(average, {"a": {"w": jnp.full(3, left)}}, rtol=1e-4)
    made = shares(Constant(0.99), 2000)
    assert (np.diff(made) <= 0).all() and made[0] == pytest.approx(0.9)
    np.testing.assert_allclose(made[891:], 0.01, rtol=1e-5)
    assert (made[:890] > 0.01).all()


@pytest.mark.parametrize("batch_size", [1, 50])
def test_half_life_halves_what_is_older_than_it(batch_size):
    """The average would depend on the batch size, or count steps as images."""
    weights = profile(HalfLife(1000.0, None), 20_000, batch_size)
    assert weights[-1000 // batch_size :].sum() == pytest.approx(0.5, rel=1e-3)


def test_half_life_ramps_up_with_the_images_so_far():
    """Early parameters would stay: in EDM's ramp the half-life is 0.05 n after n images."""
    batch_size, ramp, images = 10, 0.05, 500.0
    share = shares(HalfLife(images, ramp), 3000, batch_size)
    assert share[0] == 1  # no trace of the random parameters
    seen = batch_size * np.arange(1, 3000)
    exact = 1 - 0.5 ** (batch_size / np.minimum(images, ramp * seen))
    np.testing.assert_allclose(share[1:], exact, rtol=1e-5)


def test_warmup_follows_its_power_up_to_the_decay():
    """The average would never reach its decay, or jump there: 1 - (1 + t)^(-2/3)."""
    share = shares(Warmup(0.99), 5000)
    t = np.arange(5000)
    np.testing.assert_allclose(share, np.maximum(0.01, (1 + t) ** (-2 / 3)), rtol=1e-5)
    assert share[998] > 0.01 and share[1100] == pytest.approx(0.01)


@pytest.mark.parametrize("name", EMAS)
def test_every_average_is_an_average(name):
    """Constant parameters would drift, or weights be negative."""
    ema = EMAS[name]()
    made = shares(ema, 500, 128)
    assert ((made > 0) & (made <= 1)).all()
    params = {"w": jnp.full(2, 3.0)}
    for step in (0, 5, 400):
        chex.assert_trees_all_equal(update(params, params, ema(jnp.asarray(step), 128)), params)
    assert EMAS[name]() == EMAS[name]() and hash(EMAS[name]()) == hash(EMAS[name]())


def test_update_is_weighted_by_the_share():
    """The new parameters would get the weight of the old average."""
    average = update({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, jnp.asarray(0.75))
    np.testing.assert_allclose(average["w"], 0.75)


@pytest.mark.parametrize("bad", [-0.1, 1.0, float("nan")])
def test_bad_decay_is_refused_by_name(bad):
    """The average would never move, or explode."""
    with pytest.raises(ValueError, match=rf"decay={bad}: needs 0 <= decay < 1"):
        Constant(bad)


@pytest.mark.parametrize("bad", [0.0, -0.1, 0.29, float("nan")])
def test_bad_std_is_refused_by_name(bad):
    """gamma would be negative or complex, as no profile has that width."""
    with pytest.raises(ValueError, match=rf"std={bad}: needs 0 < std < 0.2887"):
        Power(bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HalfLife(images=0.0), "images=0.0: needs images > 0"),
        (lambda: HalfLife(ramp=-1.0), "ramp=-1.0: needs ramp > 0"),
        (lambda: Warmup(power=1.5), "power=1.5: needs 0 < power <= 1"),
        (lambda: Warmup(decay=1.0), "decay=1.0: needs 0 <= decay < 1"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    """The average would never move, or run backwards."""
    with pytest.raises(ValueError, match=message):
        make()
