"""Resizing as evaluators do it, on real images, against the plain formula."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from diffjax.data import digits
from diffjax.nets.resize import WAYS, resized

pytestmark = pytest.mark.typed

CIFAR = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def point_by_point(x, size, way):
    """Compute one pixel of the result after the other, from its four neighbours."""
    made = np.zeros((len(x), size, size, x.shape[-1]))
    ends = np.array(x.shape[1:3]) - 1
    for i in range(size):
        for j in range(size):
            at = np.array([i, j]) * (ends + 1) / size
            if way == "pytorch":
                at = np.maximum((np.array([i, j]) + 0.5) * (ends + 1) / size - 0.5, 0)
            lo = at.astype(int)
            (a, b), (c, d), (y, z) = lo, np.minimum(lo + 1, ends), at - lo
            top = x[:, a, b] * (1 - z) + x[:, a, d] * z
            made[:, i, j] = top * (1 - y) + (x[:, c, b] * (1 - z) + x[:, c, d] * z) * y
    return made


def by_pillow(x, size):
    draw = lambda a: Image.fromarray(a).resize((size, size), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(draw(a)) for a in x])


def photo():
    """A photograph of 427 x 640, every third pixel."""
    return load_sample_image("flower.jpg")[None, ::3, ::3]


def cifar():
    from diffjax.data import tfds

    return tfds("test", "cifar10", data_dir=str(CIFAR))[np.arange(4)]["x"]


real_images = pytest.mark.parametrize(
    ("images", "size"),
    [
        pytest.param(lambda: digits("test").x[:4].repeat(3, -1), 75, id="digits"),
        pytest.param(photo, 20, id="photo"),
        pytest.param(
            cifar,
            75,
            id="cifar10",
            marks=pytest.mark.skipif(
                not (CIFAR / "cifar10").is_dir(), reason=f"no prepared CIFAR-10 in {CIFAR}"
            ),
        ),
    ],
)


@real_images
@pytest.mark.parametrize("way", ["tensorflow1", "pytorch"])
def test_bilinear_ways_are_their_formula(images, size, way):
    """FID would change by up to several points: images would be shifted or smoothed."""
    x = images().astype(np.float32)
    made = resized(jnp.asarray(x), size, way)
    np.testing.assert_allclose(made, point_by_point(x, size, way), atol=2e-4)


@real_images
def test_bicubic_is_that_of_pillow(images, size):
    """Resized images would differ from Pillow's by more than the rounding of its integers."""
    x = images()
    made = np.asarray(resized(jnp.asarray(x, jnp.float32), size, "pillow"))
    apart = np.abs(made - by_pillow(x, size))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


def test_another_way_is_refused_by_name():
    with pytest.raises(ValueError, match="way='clean'.*known: " + ", ".join(map(repr, WAYS))):
        resized(jnp.zeros((1, 4, 4, 3)), 8, "clean")
