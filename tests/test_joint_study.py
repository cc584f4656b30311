"""The studies of joint generation: their layouts, and four exact laws of a Gaussian pair."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic, data, grids, samplers, schedules, sde
from diffjax.arrays import pytree
from diffjax.data.joint import Pair
from diffjax.data.joint_clips import Card
from experiments.joint.study import Laws, OwnMarginal

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


@pytree
@dataclasses.dataclass(frozen=True)
class OfEachPixel:
    """A denoiser of items (B, L, ...), each pixel of which has a denoiser of its L values."""

    flat: Any

    @property
    def sde(self):
        return PROCESS

    def __call__(self, x, t, cond=None, *, key=None):
        rows = jnp.moveaxis(x, 1, -1)
        times = jnp.broadcast_to(t.reshape(len(x), *(1,) * (x.ndim - 2), -1), rows.shape)
        found = self.flat(rows.reshape(-1, x.shape[1]), times.reshape(-1, x.shape[1]))
        return jax.tree.map(lambda a: jnp.moveaxis(a.reshape(rows.shape), -1, 1), found)


def test_the_reference_of_guidance_is_the_marginal():
    """Guidance would lead away from something else than the law without labels.

    At weight 0 the prediction for x is that of its marginal, at weight 1 the conditional one.
    """
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 3, 1)), jnp.float32)
    t = jnp.broadcast_to(jnp.array([0.4, 0.4, 1e-3]), (4, 3))
    flat = analytic.correlated(jnp.asarray(MEAN, jnp.float32), C).denoiser(PROCESS)
    alone = analytic.correlated(jnp.asarray(MEAN[:2], jnp.float32), C[:2, :2]).denoiser(PROCESS)
    image, noise = jnp.array([True, True, False]), jnp.asarray(rng.normal(size=(4, 3, 1)))
    each = OfEachPixel(flat)
    at = lambda weight: OwnMarginal(each, noise, image, jnp.asarray(weight))(x, t).x0[:, :, 0]
    np.testing.assert_allclose(at(1.0), flat(x[..., 0], t).x0, rtol=1e-4, atol=1e-5)
    expected = alone(x[:, :2, 0], t[:, :2]).x0
    np.testing.assert_allclose(at(0.0)[:, :2], expected, atol=0.02)  # t_max keeps a trace


def test_clips_and_cards_are_drawn_from_the_laws():
    """A clip that is known would be changed, a law be another, or a sample depend on its batch.

    The exact denoiser is that of clips of two frames with a card, each pixel of them a Gaussian.
    """
    denoise = OfEachPixel(analytic.correlated(jnp.asarray(MEAN, jnp.float32), C).denoiser(PROCESS))
    card = Card((2, 8, 8, 1), classes=10)
    laws = Laws(SimpleNamespace(denoise=denoise), card, steps=30, batch=8)
    items = np.full((16, 3, 8, 8, 1), 3.0, np.float32)
    x = laws.draw("label of an image", items)
    assert (x[:, :2] == 3).all()
    gain = np.linalg.solve(C[:2, :2], C[:2, 2])
    np.testing.assert_allclose(x[:, 2].mean(), MEAN[2] + gain @ (3 - MEAN[:2]), atol=0.05)
    np.testing.assert_allclose(x[:, 2].var(), C[2, 2] - gain @ C[:2, 2], rtol=0.2)
    alone, clip = laws.draw("image alone", items), slice(0, 2)
    np.testing.assert_allclose(alone[:, clip].mean((0, 2, 3, 4)), MEAN[:2], atol=0.1)
    whole = dataclasses.replace(laws, batch=16)
    given, means = MEAN[:2] + C[:2, 2] / C[2, 2] * (3 - MEAN[2]), {}
    for weight in (1.0, 2.0):
        one, other = (of.draw("image of a label", items, weight) for of in (laws, whole))
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert (one[:, 2] == 3).all()
        means[weight] = one[:, clip].mean((0, 2, 3, 4))
    np.testing.assert_allclose(means[1.0], given, atol=0.1)
    assert ((means[2.0] - given) / (given - MEAN[:2]) > 0.3).all()


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


@pytest.mark.parametrize("frame", [(4, 5, 3), (16, 16, 1)])
def test_a_clip_and_its_card_come_back(frame):
    """Frames would change or a class be read as another, also where tiles are cut off."""
    rng = np.random.default_rng(0)
    card, label = Card((3, *frame), classes=10, scale=0.5), np.arange(10)
    x = rng.uniform(-1, 1, (10, 3, *frame))
    items = card.pack(x, label)
    assert items.shape == (10, sum(card.positions), *frame) and items.dtype == np.float32
    np.testing.assert_allclose(card.images(items), x, atol=1e-6)
    np.testing.assert_array_equal(card.labels(items), label)
    assert np.unique(items[:, 3:]).tolist() == [-0.5, 0.5]
    noisy = items + rng.normal(size=items.shape) * 0.2
    np.testing.assert_array_equal(card.labels(noisy), label)


def test_clips_of_the_source_are_moving_digits_with_their_classes():
    """A network would learn classes of other clips, or from what the card does not show."""
    source, index = data.joint_clips("train", size=200, frames=3, scale=0.5), np.arange(30)
    clips = data.moving_digits("train", size=200, frames=3)
    x = source[index]["x"]
    np.testing.assert_array_equal(source.card.images(x), clips[index]["x"])
    np.testing.assert_array_equal(source.card.labels(x / 127.5 - 1), clips.labels()[:30])
    assert x.dtype == np.uint8 and [*source[index]] == ["x"] and not source.form.conditions
    assert np.unique(x[:, 3]).tolist() == [64, 191]


def test_images_of_several_channels_have_labels_too():
    """Only digits would be known as images with labels."""
    items = data.joint("test", of="emoji", patch=4)
    pair = Pair((32, 32, 3), classes=3, patch=4)
    source = data.emoji("test")
    np.testing.assert_array_equal(pair.labels(items.x), source.labels())
    np.testing.assert_allclose(pair.images(items.x), source.x / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.0}, "scale=0.0: needs"),
        ({"scale": 2.0}, "scale=2.0: needs"),
        ({"frames": 0}, "frames=0"),
        ({"side": 8}, "side=8"),
    ],
)
def test_bad_settings_of_clips_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        data.joint_clips("test", **settings)


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [((3, 16, 1, 1), 10, "at least 2 rows and columns"), ((3, 16, 16, 1), 1, "classes=1")],
)
def test_cards_that_hold_no_class_are_refused(shape, classes, message):
    """Two classes would have one tile."""
    with pytest.raises(ValueError, match=message):
        Card(shape, classes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"patch": 3}, "patch=3"), ({"of": "moons"}, "of='moons'"), ({"scale": 0.0}, "scale=0")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        data.joint("test", **settings)
