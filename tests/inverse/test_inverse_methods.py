"""Methods that draw random numbers: replacement, RePaint, DAPS and DDRM, by exact moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import COSINE, EXPLODING, Hidden, ask, correlated

from diffjax import analytic, grids, samplers
from diffjax.guidance import GuidedDenoiser
from diffjax.inverse import (
    DDRM,
    Drawn,
    Flat,
    Infinite,
    Mask,
    Matrix,
    Measurement,
    Posterior,
    Replacement,
    Scale,
    Tweedie,
    Unit,
    correlated_posterior,
)
from diffjax.samplers import affine_moments
from diffjax.samplers.first_order import _kernel

pytestmark = pytest.mark.usefixtures("x64")

KNOWN = Measurement(np.array([[1.2, 0.0]]), Mask(np.array([[True, False]])), 0.0)


def pair(sde):
    """Two values of unit variance and correlation 0.8."""
    return analytic.correlated(jnp.zeros(2), jnp.array([[1, 0.8], [0.8, 1]])).flow_map(sde)


def covariance(data):
    basis, var = np.asarray(data.basis), np.asarray(data.var)
    return basis * var @ basis.T


def times(steps, sde=EXPLODING):
    return grids.logsnr_uniform(sde, steps)


@pytest.mark.parametrize(
    ("table", "mean", "var"),
    [
        pytest.param(
            samplers.ancestral(EXPLODING, times(25)), 0.52, 0.37, marks=pytest.mark.thorough
        ),
        (samplers.ancestral(EXPLODING, times(100)), 0.58, 0.46),
        (samplers.repaint(EXPLODING, times(100), repeats=2), 0.743, None),
        pytest.param(
            samplers.repaint(EXPLODING, times(100), repeats=5),
            *(0.873, None),
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["25", "100", "2x100", "5x100"],
)
def test_replacement_and_repaint_have_the_known_bias(table, mean, var):
    """The methods would have another bias than their docstrings state.

    The exact distribution of the other value is N(0.96, 0.36).
    """
    found, cov = affine_moments(table, pair(EXPLODING), (2,), guidance=Replacement(KNOWN))
    assert found[0] == pytest.approx(1.2, abs=1e-9) and cov[0, 0] == pytest.approx(0, abs=1e-9)
    assert found[1] == pytest.approx(mean, abs=0.005)
    assert var is None or cov[1, 1] == pytest.approx(var, abs=0.006)


@pytest.mark.thorough
def test_replacement_and_repaint_in_the_limit_of_many_rows():
    table = samplers.ancestral(EXPLODING, times(1600))
    mean, cov = affine_moments(table, pair(EXPLODING), (2,), guidance=Replacement(KNOWN))
    np.testing.assert_allclose([mean[1], cov[1, 1]], [0.599, 0.492], atol=0.002)
    for repeats, wanted in ((10, 0.918), (20, 0.940), (50, 0.952)):
        table = samplers.repaint(EXPLODING, times(100), repeats=repeats)
        mean, _ = affine_moments(table, pair(EXPLODING), (2,), guidance=Replacement(KNOWN))
        assert mean[1] == pytest.approx(wanted, abs=0.002)


@pytest.mark.thorough
def test_replacing_x0_has_the_mean_of_replacement_and_another_variance():
    """`Infinite` would draw noise, or replacement none."""
    table = samplers.ancestral(COSINE, times(20, COSINE))
    ours, theirs = (
        affine_moments(table, pair(COSINE), (2,), guidance=guidance)
        for guidance in (Replacement(KNOWN), Posterior(KNOWN, Infinite()))
    )
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    assert theirs[1][1, 1] > 1.05 * ours[1][1, 1]


def test_repaint_without_a_measurement_keeps_gaussian_data():
    """The noise that leads back would have another variance, or the rows be miscounted."""
    for settings in ({"repeats": 1}, {"repeats": 3}, {"repeats": 2, "jump": 4}):
        table = samplers.repaint(COSINE, times(10, COSINE), **settings)
        assert len(table) == settings["repeats"] * 9 + 1
        mean, var = samplers.moments(table, COSINE, 0.7, 0.0)
        assert mean == pytest.approx(0.7, abs=1e-9) and var == pytest.approx(0, abs=1e-9)
    plain = samplers.ancestral(COSINE, times(10, COSINE))
    one = samplers.repaint(COSINE, times(10, COSINE), repeats=1)
    np.testing.assert_allclose(samplers.unroll(one).result, samplers.unroll(plain).result)


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_daps_with_the_tweedie_covariance_is_exact_in_any_number_of_steps(steps):
    """The draw of x0 would have another mean or covariance than those of p(x0 | x_t, y)."""
    data, measurement = (
        correlated(3),
        Measurement(jnp.array([[0.5]]), Matrix(jnp.ones((1, 3))), 0.4),
    )
    table = samplers.consistency(COSINE, grids.uniform(COSINE, steps))
    guidance = Drawn(Posterior(measurement, Tweedie(3)))
    # From x at t_max on data of this prior: its prior would be off by alpha = 0.002 in one step.
    at = samplers.table.levels(COSINE, table.t[:1])
    cov = covariance(data)
    start = at.alpha[0] * data.mean, at.alpha[0] ** 2 * cov + at.sigma[0] ** 2 * np.eye(3)
    exact = correlated_posterior(data, measurement)
    denoise = data.flow_map(COSINE)
    mean, cov = affine_moments(table, denoise, (3,), guidance=guidance, start=start)
    np.testing.assert_allclose(mean, exact.mean, atol=2e-3)
    np.testing.assert_allclose(cov, covariance(exact), atol=2e-3)


@pytest.mark.thorough
def test_daps_with_a_flat_covariance_has_a_bias():
    """The docstring of DAPS would state another bias."""
    var = np.array([1.0, 0.25])
    denoise = analytic.gaussian(jnp.full(2, 0.7), jnp.asarray(var)).denoiser(COSINE)
    table = samplers.consistency(COSINE, grids.uniform(COSINE, 50))
    guidance = Drawn(Posterior(Measurement(jnp.full((1, 2), 1.5), Scale(1.0), 0.5), Flat()))
    mean, cov = affine_moments(table, denoise, (2,), guidance=guidance)
    exact = 1 / (1 / var + 4)
    ours = (mean - exact * (0.7 / var + 6)) / np.sqrt(exact), np.diag(cov) / exact
    np.testing.assert_allclose(ours, [[0.019, 0.102], [0.991, 1.010]], atol=0.002)


@pytest.mark.parametrize(
    ("steps", "ratio"), [pytest.param(20, 0.31, marks=pytest.mark.thorough), (200, 0.05)]
)
def test_ddrm_collapses_to_the_measurement(steps, ratio):
    """DDRM would be another method than the published one.

    The variance of measured values falls with the steps, and their mean approaches y. The others
    follow the kernel of `ddim` with a constant share of fresh noise.
    """
    var = jnp.array([0.25, 1.0, 4.0, 1.0])
    denoise = analytic.gaussian(jnp.full(4, 0.7), var).denoiser(EXPLODING)
    keep = jnp.array([[True, True, True, False]])
    guidance = DDRM(Measurement(jnp.full((1, 4), 1.5), Mask(keep), 0.5))
    table = samplers.flow_map(EXPLODING, times(steps))
    mean, cov = affine_moments(table, denoise, (4,), guidance=guidance)
    ratios = np.diag(cov)[:3] * (1 / np.asarray(var)[:3] + 4)
    np.testing.assert_allclose(ratios, ratio, atol=0.08 if steps == 20 else 0.015)
    gaps = 1.5 - mean[:3]
    assert (gaps > 0).all() and (gaps < (0.4 if steps == 20 else 0.12)).all()
    free = _kernel(EXPLODING, times(steps), lambda h: 0.85**2)
    wanted = samplers.moments(free, EXPLODING, 0.7, 1.0)
    np.testing.assert_allclose([mean[3], cov[3, 3]], wanted, atol=1e-6)


@pytest.mark.thorough
def test_a_sampled_posterior_has_the_moments_that_are_computed_for_it():
    """The random numbers of guidance would be correlated, or not standard normal."""
    table = samplers.repaint(COSINE, times(4, COSINE), repeats=2)
    x, keys = samplers.initial(COSINE, jax.random.split(jax.random.key(1), 4000), (2,))
    guidance = Replacement(KNOWN)
    draw = lambda order: samplers.sample(
        pair(COSINE), table, x[order], keys[order], guidance=guidance
    )
    samples = draw(order := np.arange(len(x)))
    np.testing.assert_allclose(draw(order[::-1]), samples[::-1], rtol=1e-10)
    mean, cov = affine_moments(table, pair(COSINE), (2,), guidance=guidance)
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(samples.T), cov, atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Replacement(Measurement(np.ones((1, 1)), Matrix(np.ones((1, 2))))),
            "Replacement of Matrix: needs an operator with a spectrum",
        ),
        (
            lambda: DDRM(Measurement(np.ones((1, 1)), Hidden(Scale(1.0)))),
            "DDRM of Hidden: needs an operator with a spectrum",
        ),
        (lambda: DDRM(KNOWN, eta=1.5), "eta=1.5: needs 0 <= eta <= 1"),
        (
            lambda: Drawn(Posterior(KNOWN, Unit())),
            "needs an instance of Drawable",
        ),
        (
            lambda: ask(DDRM(KNOWN), pair(COSINE), jnp.ones((1, 2)), jnp.full(1, 0.5)),
            "DDRM needs the time of the next row; allowed: the table flow_map",
        ),
        (
            lambda: GuidedDenoiser(pair(COSINE), Replacement(KNOWN))(
                jnp.ones((1, 2)), jnp.full(1, 0.5)
            ),
            "the guidance draws random numbers",
        ),
        (lambda: samplers.repaint(COSINE, times(3), repeats=0), "repeats=0: needs repeats >= 1"),
    ],
)
def test_what_cannot_work_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
