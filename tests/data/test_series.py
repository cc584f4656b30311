"""The source of Gaussian series: its law is the stated one, and so are its forecasts."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import LaneDenoiser
from diffjax.data.series import covariance, rotation, series
from diffjax.schedules import Cosine
from diffjax.sde import VP


def test_series_have_the_covariance_that_the_exact_forecasts_use():
    """Forecasts would be measured against another law than that of the data."""
    x = series("train", size=40_000, length=5).x.reshape(40_000, -1)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(x.T @ x / len(x), covariance(5), atol=0.03)


def test_the_forecast_of_a_schur_complement_is_that_of_the_recursion(x64):
    """The next row would not be N(rho R times the last one, 1 - rho^2), whatever came before."""
    cov, known = covariance(6, rho=0.8, turn=0.3), 8
    gain = cov[known:, :known] @ np.linalg.inv(cov[:known, :known])
    rest = cov[known:, known:] - gain @ cov[:known, known:]
    step = 0.8 * rotation(0.3)
    np.testing.assert_allclose(gain[:2], np.hstack([np.zeros((2, 6)), step]), atol=1e-12)
    np.testing.assert_allclose(gain[2:, 6:], step @ step, atol=1e-12)
    np.testing.assert_allclose(rest[:2, :2], 0.36 * np.eye(2), atol=1e-12)
    np.testing.assert_allclose(rest[2:, :2], 0.36 * step, atol=1e-12)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 2)))
    t = jnp.array([[0.0] * 4 + [1.0] * 2])
    exact = LaneDenoiser(VP(Cosine()), jnp.zeros((6, 2)), jnp.asarray(cov))(x, t)
    np.testing.assert_allclose(exact.x0[0, 4:].ravel(), gain @ x[0, :4].ravel(), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"size": 0}, "size=0"), ({"length": 1}, "length=1"), ({"rho": 1.0}, "rho=1.0: needs")],
)
def test_bad_settings_of_series_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        series("train", **settings)
