"""The study of score distillation: exact rules on Gaussians, the renderer, the law of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, schedules, sde
from experiments.distill3d import study
from experiments.distill3d.distillation import RANGE, direction, of_images, render

PROCESS = sde.VP(schedules.Cosine())
M, C = np.array(study.MEAN), np.array(study.COV)


def rates(cov):
    """Return the mean over drawn times of sigma^2 alpha (alpha^2 cov + sigma^2)^-1, (2, 2)."""
    t = jnp.linspace(*(share * PROCESS.t_max for share in RANGE), 20_001)
    a, s = (np.asarray(f(t), np.float64)[:, None, None] for f in (PROCESS.alpha, PROCESS.sigma))
    return (s**2 * a * np.linalg.inv(a**2 * cov + s**2 * np.eye(2))).mean(0)


@pytest.mark.parametrize("law", [False, True])
def test_the_mean_direction_is_linear_in_closed_form(law):
    """The rule would have another weight, sign or view than the papers'.

    For data N(m, C) the mean of SDS is K(C) (x - m), and a Gaussian law N(mu, Q) of the images
    takes K(Q) (x - mu) away from it.
    """
    at, mu, cov = np.array([0.3, 1.1]), np.array([-0.2, 0.4]), np.diag([0.5, 2.0])
    prior = analytic.correlated(jnp.asarray(M, jnp.float32), C).flow_map(PROCESS)
    own = analytic.correlated(jnp.asarray(mu, jnp.float32), cov).flow_map(PROCESS)
    x = jnp.broadcast_to(jnp.asarray(at, jnp.float32), (200_000, 2))
    found = direction(prior, x, jax.random.key(0), law=own if law else None)
    expected = rates(C) @ (at - M) - (rates(cov) @ (at - mu) if law else 0)
    error = np.asarray(found).std(0) / np.sqrt(len(x))
    assert (np.abs(np.asarray(found).mean(0) - expected) < 4 * error + 1e-4).all()


def test_sds_ends_at_the_mode_and_vsd_at_the_law():
    """The seeking of modes, and its cure, would be those of a small network and not of the rule."""
    sds, vsd = (study.gaussian(law, 500, 2000) for law in (False, True))
    for x in (sds, vsd):
        np.testing.assert_allclose(x.mean(0), M, atol=0.05)
    assert np.abs(np.cov(sds.T)).max() < 0.01
    np.testing.assert_allclose(np.cov(vsd.T), C, atol=0.05)


def test_for_one_image_vsd_is_sds():
    """One cube would be repelled by an image that is its own."""
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 4, 4, 1)), jnp.float32)
    t, eps = jnp.full(1, 0.5), jnp.ones_like(x)
    noised = PROCESS.alpha(t)[:, None, None, None] * x + PROCESS.sigma(t)[:, None, None, None] * eps
    np.testing.assert_allclose(of_images(x, PROCESS)(noised, t).eps, eps, atol=1e-4)


def test_shadows_are_those_of_the_formula():
    """A digit would be shown mirrored, or along another axis than its own."""
    density = np.random.default_rng(0).uniform(0, 3, (4, 4, 4))
    for axis, shadow in enumerate(render(jnp.asarray(density, jnp.float32), 2, thickness=2.0)):
        lost = 2 * (1 - np.exp(-2 * density.mean(axis))) - 1
        pooled = [[lost[i : i + 2, j : j + 2].mean() for j in (0, 2)] for i in (0, 2)]
        np.testing.assert_allclose(shadow[..., 0], pooled, rtol=1e-5)
    assert float(render(jnp.zeros((4, 4, 4)), 4).max()) == -1
    assert float(render(jnp.full((4, 4, 4), 1e4), 4).min()) == 1
    seen = study.turning(jnp.asarray(np.random.default_rng(1).normal(size=(16, 16, 16))), 4)
    np.testing.assert_array_equal(seen[0][::12], seen[2][::12, ::-1])  # half a turn mirrors


def test_digits_differ_within_a_cube():
    """Three shadows could be alike by chance."""
    digits = study.drawn_digits(10)
    assert digits.shape == (10, 3) and all(len(set(row)) == 3 for row in digits.tolist())
