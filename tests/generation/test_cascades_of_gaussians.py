"""Cascades of exact denoisers on a Gaussian pyramid, whose samples are known in closed form.

Data are x ~ N(m, S) on 4 x 4 pixels, and their smaller version is z = D x. The second stage has
the exact posterior of x given z_tau = sqrt(1 - tau^2) z + tau n, read back from the condition `low`
that the library makes, and samples it by the exact flow map. So every moment below is exact in
float64.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import samplers, sde
from diffjax.analytic import Correlated
from diffjax.data.enlarged import Enlarged, smaller
from diffjax.data.form import labelled
from diffjax.samplers.affine import affine_moments
from diffjax.schedules import Logit

FORM = labelled("latent", (4, 4, 1))
SMALL = (2, 2, 1)
FLOW = sde.Flow(Logit(), t_max=1.0)
TAUS = [0.0, 0.1, 0.3, 0.6, 0.9, 1.0]
SETTINGS = [("area", "bicubic"), ("bicubic", "bilinear"), ("bilinear", "area")]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def data():
    """Mean (16,) and covariance (16, 16) of smooth images that are not centred."""
    at = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(16, 2)
    apart = ((at[:, None] - at[None]) ** 2).sum(-1)
    return 0.1 * np.arange(16) - 0.5, np.exp(-apart / 8) + 0.05 * np.eye(16)


def noised(enlarged, small, tau, noise):
    """The smaller item with noise, as the network could read it back from the condition."""
    low = enlarged.conditions(small, (-3, -2), np.full(len(small), tau), noise)["low"]
    enlarge = columns(lambda z: enlarged.conditions(z, (-3, -2), np.zeros(len(z)), 0 * z)["low"], 4)
    return low.reshape(len(low), 16) @ np.linalg.pinv(enlarge).T


def columns(linear, size):
    """The matrix of a linear function of items with `size` values."""
    side = int(size**0.5)
    return linear(np.eye(size).reshape(size, side, side, 1)).reshape(size, -1).T


def reduction(enlarged):
    """D as a matrix (4, 16), in float64."""
    return columns(lambda x: smaller(x, FORM, enlarged.factor, enlarged.kernel), 16)


def posterior(down, tau, z):
    """The exact law of x given z_tau = z: a Gaussian, its flow map under FLOW."""
    m, cov = data()
    alpha = np.sqrt(1 - tau**2)
    spread = alpha**2 * down @ cov @ down.T + tau**2 * np.eye(4)
    gain = alpha * cov @ down.T @ np.linalg.inv(spread)
    var, basis = np.linalg.eigh(cov - alpha * gain @ down @ cov)
    mean = m + gain @ (z - alpha * down @ m)
    return Correlated(jnp.asarray(mean), jnp.asarray(basis), jnp.asarray(var.clip(0)))


def stage(down, tau, z):
    """Mean (16,) and covariance of the samples of the second stage under a condition."""
    of = posterior(down, tau, z).flow_map(FLOW)
    table = samplers.flow_map(FLOW, np.array([1.0, 0.4, 0.0]))
    return affine_moments(table, of, (16,))


def chain(enlarged, tau, shift):
    """Mean and covariance of the samples of both stages; the base has the mean D m + shift.

    The conditions are affine in the base sample and its noise, so their values at 0 and at unit
    vectors determine the law.
    """
    m, cov = data()
    down = reduction(enlarged)
    zero = np.zeros((1, *SMALL))
    units = np.eye(4).reshape(4, *SMALL)
    signal = noised(enlarged, units, tau, np.zeros((4, *SMALL))).T
    noise = noised(enlarged, np.repeat(zero, 4, 0), tau, units).T
    offset, inner = stage(down, tau, np.zeros(4))
    slope = np.stack([stage(down, tau, e)[0] - offset for e in np.eye(4)], 1)
    base = down @ cov @ down.T
    spread = signal @ base @ signal.T + noise @ noise.T
    return offset + slope @ signal @ (down @ m + shift), inner + slope @ spread @ slope.T


@pytest.mark.parametrize(("kernel", "enlarge"), SETTINGS)
@pytest.mark.parametrize("tau", TAUS)
def test_an_exact_base_gives_an_exact_output_at_every_level(tau, kernel, enlarge):
    """Conditioning augmentation would change the distribution of samples (G1)."""
    m, cov = data()
    mean, covariance = chain(Enlarged(2, (0.0, 1.0), kernel, enlarge), tau, np.zeros(4))
    np.testing.assert_allclose(mean, m, atol=1e-9)
    np.testing.assert_allclose(covariance, cov, atol=1e-9)


def test_an_error_of_the_base_appears_as_the_gain_times_alpha_and_falls_with_the_level():
    """The trade-off of the study would have no reference (G1)."""
    m, cov = data()
    enlarged, shift = Enlarged(2, (0.0, 1.0)), np.full(4, 0.3)
    down = reduction(enlarged)
    errors = []
    for tau in TAUS:
        alpha = np.sqrt(1 - tau**2)
        spread = alpha**2 * down @ cov @ down.T + tau**2 * np.eye(4)
        expected = alpha**2 * cov @ down.T @ np.linalg.solve(spread, shift)
        mean, covariance = chain(enlarged, tau, shift)
        np.testing.assert_allclose(mean - m, expected, atol=1e-9)
        np.testing.assert_allclose(covariance, cov, atol=1e-9)  # a shift moves the mean only
        errors.append(float(np.abs(mean - m).mean()))
    assert errors[0] == pytest.approx(0.3, abs=0.01) and errors[-1] < 1e-9
    assert all(a > b for a, b in pairwise(errors))


@pytest.mark.parametrize("tau", [0.1, 0.6, 0.95])
def test_noise_on_the_smaller_item_has_the_law_of_a_base_that_stops_early(tau):
    """Truncation and augmentation would be different methods (G2, arXiv:2106.15282, sec. 3.2)."""
    m, cov = data()
    enlarged = Enlarged(2, (0.0, 1.0))
    down = reduction(enlarged)
    base, (var, basis) = down @ m, np.linalg.eigh(down @ cov @ down.T)
    of = Correlated(jnp.asarray(base), jnp.asarray(basis), jnp.asarray(var))
    # A process that preserves variance has sigma = tau where its log-SNR is log(1 / tau^2 - 1).
    vp = sde.VP(Logit(), t_min=1e-3, t_max=1 - 1e-9)
    stop = float(vp.schedule.inverse(jnp.asarray(np.log(1 / tau**2 - 1))))
    table = samplers.flow_map(vp, np.array([vp.t_max, stop]))
    mean, covariance = affine_moments(table, of.flow_map(vp), (4,))
    units = np.eye(4).reshape(4, *SMALL)
    signal = noised(enlarged, units, tau, 0 * units)
    noise = noised(enlarged, 0 * units, tau, units)
    np.testing.assert_allclose(mean, signal.T @ base, atol=1e-4)
    exact = signal.T @ (down @ cov @ down.T) @ signal + noise.T @ noise
    np.testing.assert_allclose(covariance, exact, atol=1e-6)


def test_at_the_largest_level_the_output_is_unconditional():
    """The network would see the smaller item in what is called noise alone (G3)."""
    m, cov = data()
    enlarged = Enlarged(2, (0.0, 1.0))
    rng = np.random.default_rng(0)
    items, noise = rng.normal(size=(2, 3, *SMALL))
    conditions = [enlarged.conditions(x, (-3, -2), np.ones(3), noise) for x in (items, 0 * items)]
    np.testing.assert_array_equal(conditions[0]["low"], conditions[1]["low"])
    mean, covariance = stage(reduction(enlarged), 1.0, rng.normal(size=4))
    np.testing.assert_allclose(mean, m, atol=1e-12)
    np.testing.assert_allclose(covariance, cov, atol=1e-12)


@pytest.mark.parametrize("kernel", ["area", "bilinear", "bicubic"])
def test_without_noise_the_smaller_output_is_the_input(kernel):
    """Super-resolution would change the image that it enlarges (G4)."""
    enlarged = Enlarged(2, (0.0, 1.0), kernel)
    down, z = reduction(enlarged), np.array([0.3, -0.2, 0.5, 0.9])
    off = []
    for tau in (0.1, 0.01, 0.0):
        mean, covariance = stage(down, tau, np.sqrt(1 - tau**2) * z)
        off.append(np.abs(down @ mean - z).max() + np.sqrt(np.trace(down @ covariance @ down.T)))
    assert off[2] < 1e-7 and off[2] < off[1] < off[0]
