"""Items made smaller, and smaller items as a condition: kernels, noise, and sources with them."""

import numpy as np
import pytest
from PIL import Image

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data import Batches, Memory, Reading, digits
from diffjax.data.enlarged import Enlarged, Reduced, Resized
from diffjax.resampling import KERNELS, matrix, resampled

PILLOW = {"area": "BOX", "bilinear": "BILINEAR", "bicubic": "BICUBIC"}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [4, 3, 24, 17])
def test_resampling_is_that_of_pillow(kernel, size):
    """The condition would differ from that of networks trained elsewhere."""
    x = RNG.normal(size=(12, 12)).astype(np.float32)
    resample = getattr(Image.Resampling, PILLOW[kernel])
    theirs = np.asarray(Image.fromarray(x).resize((size, size), resample))
    ours = resampled(x[None, ..., None], {1: size, 2: size}, kernel)[0, ..., 0]
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_every_kernel_keeps_the_mean_colour_of_an_image_that_it_enlarges_or_halves():
    """Samples of a cascade would drift in colour."""
    for kernel in KERNELS:
        for n, size in ((8, 4), (4, 8), (8, 2)):
            np.testing.assert_allclose(matrix(kernel, n, size).sum(1), 1)
        np.testing.assert_allclose(resampled(np.full((1, 8, 8, 3), 0.3), {1: 4, 2: 4}, kernel), 0.3)


def source(**settings):
    return Resized(digits("test"), **settings)


def test_a_smaller_item_is_the_average_of_its_blocks_in_grey_levels():
    """The first network of a cascade would learn other images than the later ones receive."""
    whole = digits("test").x[:5].astype(float).reshape(5, 4, 2, 4, 2, 1).mean((2, 4))
    reduced = source(reduced=Reduced(2))[np.arange(5)]["x"]
    assert reduced.dtype == np.uint8
    assert np.abs(reduced - whole).max() <= 0.5 + 1e-4


def test_the_condition_of_a_training_item_is_that_of_a_sample_of_its_smaller_version():
    """Training and sampling would present smaller items differently."""
    one = Enlarged(2, (0.0, 0.0))
    items = source(enlarged=one)[np.arange(5)]
    small = source(reduced=Reduced(2)).form.items.normalise(
        source(reduced=Reduced(2))[np.arange(5)]["x"]
    )
    again = one.conditions(small, (-3, -2), np.zeros(5), 0 * small)
    assert [*again] == ["low"] and "tau" not in items
    np.testing.assert_allclose(items["low"], again["low"], atol=1.5 / 127.5)  # grey levels


def test_noise_has_the_stated_level_on_the_small_grid():
    """The network would be told another level than that of the noise."""
    black = Memory(np.zeros((400, 8, 8, 1), np.float32), kind="image")
    items = Resized(black, enlarged=Enlarged(4, (0.0, 1.0), enlarge="area"))[np.arange(400)]
    noise = items["low"][:, ::4, ::4, 0] / items["tau"][:, :, None]
    np.testing.assert_array_equal(items["low"][:, 1], items["low"][:, 0])  # one value per block
    assert noise.std() == pytest.approx(1, abs=0.05) and abs(noise.mean()) < 0.06
    assert 0 <= items["tau"].min() < 0.02 and 0.98 < items["tau"].max() <= 1


def test_batch_k_is_a_function_of_the_seed_and_k():
    """A resumed run would see other noise; all epochs would see the same noise."""
    reading = Reading(enlarged=Enlarged(2, (0.0, 1.0)))
    opened = source(enlarged=reading.enlarged)
    batches = lambda seed, rows=...: Batches(opened, 99, seed, reading, rows)
    first, again = batches(0)[4], batches(0)[4]
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    part = batches(0, slice(3, 7))[4]
    np.testing.assert_array_equal(part["low"], first["low"][3:7])
    assert not np.array_equal(batches(1)[4]["tau"], first["tau"])
    epoch = np.argsort(np.concatenate([batches(0).items(k) for k in range(6)]), kind="stable")
    tau = np.concatenate([batches(0)[k]["tau"][:, 0] for k in range(6)])[epoch].reshape(-1, 2)
    assert (tau[:, 0] != tau[:, 1]).all()  # each item has another level in the next epoch


def test_flips_turn_the_condition_with_its_item():
    """The network would learn from a condition that is the mirror image of its item."""
    reading = Reading(flip=True, enlarged=Enlarged(2, (0.0, 0.0)))
    batch = Batches(source(enlarged=reading.enlarged), 64, 0, reading)[0]
    plain = Batches(source(enlarged=reading.enlarged), 64, 0, Reading())[0]
    flipped = (batch["x"] != plain["x"]).any((1, 2, 3))
    assert 20 < flipped.sum() < 44
    np.testing.assert_array_equal(batch["low"][flipped], plain["low"][flipped][:, :, ::-1])
    np.testing.assert_array_equal(batch["low"][~flipped], plain["low"][~flipped])


def test_latents_and_captions_pass_through():
    """A second stage in latents would need code of its own, or a caption would be lost."""
    z = RNG.normal(size=(6, 4, 4, 3)).astype(np.float32)
    texts = [("one",)] * 6
    latents = Memory(z, kind="latent", texts=texts)
    opened = Resized(latents, Reduced(2), None)
    np.testing.assert_allclose(
        opened[np.arange(6)]["x"], z.reshape(6, 2, 2, 2, 2, 3).mean((2, 4)), atol=1e-6
    )
    assert opened.captions(np.arange(2)) == [["one"]] * 2
    assert opened.kept()[np.arange(6)]["x"].shape == (6, 2, 2, 3)


def form_of(section):
    opened, reading = builder.construct_data(section, "config.data")
    return reading.form(opened("train"))


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"enlarged": {"factor": 3}}, "enlarged.factor=3: does not divide the sides of (8, 8,"),
        ({"enlarged": {"factor": 1}}, "enlarged.factor=1: needs factor >= 2"),
        ({"reduced": {"factor": 16}}, "reduced.factor=16: does not divide"),
        ({"enlarged": {"levels": (0.5, 0.1)}}, "levels=(0.5, 0.1): needs 0 <= least <= largest"),
        ({"enlarged": {"kernel": "lanczos"}}, "kernel='lanczos': unknown; known: 'area'"),
        ({"enlarged": {"noise": 1}}, "config.data.enlarged.noise"),
        (
            {"enlarged": "factor=2", "augment": "affine"},
            "augment: would change the image but not its condition",
        ),
        ({"name": "moons", "enlarged": {}}, "enlarged: points (2,) have no sides"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(section, says):
    """A run would fail after it was compiled, or learn from a wrong condition."""
    with pytest.raises(ConfigError) as refused:
        form_of({"name": "digits"} | section)
    assert says in str(refused.value)
