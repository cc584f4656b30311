"""The study of joint generation: its layout, and four exact laws of a Gaussian pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, data, grids, samplers, schedules, sde
from diffjax.data.joint import Pair
from experiments.joint.study import OwnMarginal

PROCESS = sde.VP(schedules.Cosine(), t_max=0.999)
C = np.array([[1.0, 0.2, 0.6], [0.2, 0.5, -0.3], [0.6, -0.3, 1.5]])
"""Two values of x, and one of y."""
MEAN = np.array([0.5, -1.0, 2.0])


def moments(x_times, y_times, y=None):
    """Return the exact mean and covariance of samples of x and y by lanes."""
    with jax.enable_x64(True):
        denoise = analytic.correlated(MEAN, C).denoiser(PROCESS)
        table = samplers.lanes(samplers.heun, PROCESS, np.stack([x_times, x_times, y_times], 1))
        free = np.array([1.0, 1.0, float(y is None)])
        start = np.array([0.0, 0.0, y or 0.0]), np.diag(free)
        return samplers.affine_moments(table, denoise, (3,), start=start)


@pytest.mark.parametrize("law", ["both", "x alone", "y alone", "x of y"])
def test_four_laws_of_a_gaussian_pair_come_from_one_denoiser(law):
    """A lane that is known, or left out, would change the law of the other."""
    grid, late = grids.uniform(PROCESS, 100), np.full(101, PROCESS.t_max)
    done, y = np.zeros(101), 3.0
    x_times, y_times = {
        "both": (grid, grid),
        "x alone": (grid, late),
        "y alone": (late, grid),
        "x of y": (grid, done),
    }[law]
    mean, cov = moments(x_times, y_times, y if law == "x of y" else None)
    kept = {"both": [0, 1, 2], "x alone": [0, 1], "y alone": [2], "x of y": [0, 1]}[law]
    true_mean, true_cov = MEAN[kept], C[np.ix_(kept, kept)]
    if law == "x of y":
        gain = C[:2, 2:] / C[2, 2]
        true_mean = true_mean + gain[:, 0] * (y - MEAN[2])
        true_cov = true_cov - gain @ C[2:, :2]
    np.testing.assert_allclose(mean[kept], true_mean, atol=0.02)
    np.testing.assert_allclose(cov[np.ix_(kept, kept)], true_cov, atol=0.02)


def test_the_reference_of_guidance_is_the_marginal():
    """Guidance would lead away from something else than the law without labels.

    At weight 0 the prediction for x is that of its marginal, at weight 1 the conditional one.
    """
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 3, 1)), jnp.float32)
    t = jnp.broadcast_to(jnp.array([0.4, 0.4, 1e-3]), (4, 3))
    flat = analytic.correlated(jnp.asarray(MEAN, jnp.float32), C).denoiser(PROCESS)
    alone = analytic.correlated(jnp.asarray(MEAN[:2], jnp.float32), C[:2, :2]).denoiser(PROCESS)

    class Inside:
        sde = PROCESS

        def __call__(self, x, t, cond=None, *, key=None):
            return jax.tree.map(lambda a: a[..., None], flat(x[..., 0], t))

    image, noise = jnp.array([True, True, False]), jnp.asarray(rng.normal(size=(4, 3, 1)))
    at = lambda weight: OwnMarginal(Inside(), noise, image, jnp.asarray(weight))(x, t).x0[..., 0]
    np.testing.assert_allclose(at(1.0), flat(x[..., 0], t).x0, rtol=1e-4, atol=1e-5)
    expected = alone(x[:, :2, 0], t[:, :2]).x0
    np.testing.assert_allclose(at(0.0)[:, :2], expected, atol=0.02)  # t_max keeps a trace


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_pair_comes_back(patch):
    """Pixels would stand at other places than they came from, or labels be others."""
    rng = np.random.default_rng(0)
    pair = Pair((8, 4, 3), classes=10, patch=patch, scale=0.5)
    x, label = rng.uniform(-1, 1, (5, 8, 4, 3)), np.array([0, 3, 9, 9, 1])
    items = pair.pack(x, label)
    assert items.shape == (5, sum(pair.positions), pair.width)
    np.testing.assert_allclose(pair.images(items), x, atol=1e-6)
    np.testing.assert_array_equal(pair.labels(items), label)
    assert np.abs(items[:, pair.positions[0] :]).max() == 0.5


def test_images_of_several_channels_have_labels_too():
    """Only digits would be known as images with labels."""
    items = data.joint("test", of="emoji", patch=4)
    pair = Pair((32, 32, 3), classes=3, patch=4)
    source = data.emoji("test")
    np.testing.assert_array_equal(pair.labels(items.x), source.labels())
    np.testing.assert_allclose(pair.images(items.x), source.x / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"patch": 3}, "patch=3"), ({"of": "moons"}, "of='moons'"), ({"scale": 0.0}, "scale=0")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        data.joint("test", **settings)
