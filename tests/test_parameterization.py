"""Targets, input scale, noise labels, and what a parameterization refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.parameterization import NOISE_LABELS, PARAMETERIZATIONS, Eps, angle, time
from diffjax.schedules import Cosine, Linear
from diffjax.sde import SDES, VE, VP, levels

# F as a function of x0 and eps, from the papers: (x0, eps, alpha, sigma) -> F.
CLOSED = {
    "eps": lambda x0, eps, alpha, sigma: eps,
    "x0": lambda x0, eps, alpha, sigma: x0,
    "v": lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
}
every = pytest.mark.parametrize("name", PARAMETERIZATIONS)
frames = pytest.mark.parametrize("frame", SDES)
T = jnp.array([1e-5, 1e-3, 0.1, 0.5, 0.9, 1.0])


def test_every_parameterization_has_a_closed_form():
    """A parameterization in the catalogue without its formula here would go untested."""
    assert set(CLOSED) == set(PARAMETERIZATIONS)


@every
@frames
@pytest.mark.fast
def test_target_is_the_published_one(name, frame):
    """A network would be trained on another target than its name says."""
    sde = SDES[frame](Linear())
    x0, eps = np.random.default_rng(0).normal(size=(2, len(T)))
    a, b = jax.jit(lambda t: PARAMETERIZATIONS[name]().target(sde, t))(T)
    at = levels(sde, np.asarray(T))
    exact = CLOSED[name](x0, eps, at.alpha, at.sigma)
    np.testing.assert_allclose(a * x0 + b * eps, exact, rtol=2e-5, atol=1e-6)


@every
@frames
def test_views_follow_from_the_target_at_every_noise_level(name, frame):
    """x0 and eps would not follow from F: its determinant with x vanishes inside the range."""
    sde = SDES[frame](Linear())
    a, b = jax.jit(lambda t: PARAMETERIZATIONS[name]().target(sde, t))(T)
    at = levels(sde, np.asarray(T))
    det = np.asarray(a) * at.sigma - np.asarray(b) * at.alpha
    assert (np.abs(det) > 1e-3 * np.minimum(at.alpha, at.sigma)).all()


@every
@frames
@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 2.0])
def test_c_in_gives_the_network_unit_variance(name, frame, sigma_data):
    """Networks would see inputs of a different size at each noise level (150 in VE)."""
    sde = SDES[frame](Linear())
    x0, eps = np.random.default_rng(0).normal(size=(2, 20_000, 1))
    at = levels(sde, np.asarray(T))
    x = at.alpha * sigma_data * x0 + at.sigma * eps
    c_in = jax.jit(lambda t: PARAMETERIZATIONS[name](sigma_data=sigma_data).c_in(sde, t))(T)
    np.testing.assert_allclose((np.asarray(c_in) * x).std(0), 1, rtol=0.03)


def test_noise_labels():
    """Trained networks would be asked with labels of another scale."""
    assert set(NOISE_LABELS) == {"time", "angle"}
    for sde in (VP(Cosine(0.0)), VE(Linear())):
        np.testing.assert_allclose(time(sde, T), 1000 * np.asarray(T), rtol=1e-6)
        labels = angle(sde, jnp.linspace(0.0, 1.0, 50))
        assert (np.diff(labels) > 0).all()
        assert labels[0] == pytest.approx(0, abs=1e-3) and labels[-1] <= 1000
    np.testing.assert_allclose(angle(VP(Cosine(0.0)), T), 1000 * np.asarray(T), rtol=1e-5)
    np.testing.assert_allclose(angle(VP(Linear()), T), angle(VE(Linear()), T), rtol=1e-6)


@every
@pytest.mark.fast
def test_alpha_0_is_refused_where_x0_does_not_follow(name):
    """x0 would be 0 / 0 in the first row of a sampler, or a valid model be refused."""
    sde = VP(Cosine())
    assert levels(sde, np.array([1.0])).alpha == 0
    if name == "eps":
        with pytest.raises(ValueError, match=r"eps with VP.*Cosine.*alpha is 0 at t_max=1.0"):
            PARAMETERIZATIONS[name]().check(sde)
    else:
        PARAMETERIZATIONS[name]().check(sde)
    for fine in (VP(Cosine(), t_max=0.99), VP(Linear()), VE(Linear())):
        PARAMETERIZATIONS[name]().check(fine)


@every
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_bad_sigma_data_is_refused_by_name(name, bad):
    """c_in would be NaN or infinite at the clean end."""
    with pytest.raises(ValueError, match=rf"sigma_data={bad}: needs sigma_data > 0"):
        PARAMETERIZATIONS[name](sigma_data=bad)


@every
@pytest.mark.parametrize("label", NOISE_LABELS)
def test_equal_parameterizations_are_equal(name, label):
    """Each new but equal model would compile the training step again."""
    make = lambda: PARAMETERIZATIONS[name](c_noise=NOISE_LABELS[label])
    assert make() == make() and hash(make()) == hash(make())
    assert make() != Eps(sigma_data=3.0)
