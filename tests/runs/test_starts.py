"""Items from which samples start: how they are read, and which are refused."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from diffjax.codecs import Decoding
from diffjax.config import ConfigError
from diffjax.data.form import labelled
from diffjax.data.images import pixels
from diffjax.runs.starts import STRENGTH, starting, stored

GREY, POINTS = labelled("image", (8, 8, 1)), labelled("points", (2,))


def experiment(form=GREY, sampler: str = "ddim") -> Any:
    config = {"sampling": {"sampler": {"name": sampler}}}
    return cast(Any, SimpleNamespace(decoding=Decoding(form), config=config))


@pytest.fixture
def pictures(tmp_path):
    """Write a folder with an image of 8 x 8, and a larger one in colour in a subfolder."""
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "more" / "b.png")
    return folder


def test_images_are_resized_as_the_source_does(pictures):
    """A photograph would be refused, or cut differently from the training images."""
    with Image.open(pictures / "more" / "b.png") as image:
        large = pixels(image, 8, 1)
    with Image.open(pictures / "a.png") as image:
        small = np.asarray(image)[..., None]
    np.testing.assert_array_equal(stored(pictures, GREY), [small, large])
    np.testing.assert_array_equal(stored(pictures / "more" / "b.png", GREY), [large])
    x, strength = starting(experiment(), pictures)
    assert x is not None and strength == STRENGTH
    np.testing.assert_allclose(x, np.stack([small, large]) / 127.5 - 1, atol=1e-6)


def test_arrays_are_items_or_one_item(tmp_path):
    """One image would be read as eight rows, or samples of another command be refused."""
    x = np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1)
    np.save(tmp_path / "x.npy", x[0])
    np.savez(tmp_path / "x.npz", arr_0=x, arr_1=np.arange(2))
    for given, items in (("x.npy", x[:1]), ("x.npz", x)):
        np.testing.assert_array_equal(stored(tmp_path / given, GREY), items)
    np.testing.assert_array_equal(stored(x[1], GREY), x[1:])
    points = np.array([[0.5, 1.0], [2.0, -1.0]])
    POINTS.items.files[0].write(tmp_path / "x.csv", points.astype(np.float32), {}, {})
    np.testing.assert_array_equal(stored(tmp_path / "x.csv", POINTS), points)
    np.testing.assert_array_equal(stored(points, POINTS), points)
    assert starting(experiment(), None) == (None, 1.0)


@pytest.mark.parametrize(
    ("start", "strength", "line"),
    [
        (np.zeros((2, 8, 8, 1), np.uint8), 0.0, r"--strength: strength=0.0: needs 0 < strength <="),
        (np.zeros((2, 8, 8, 1), np.uint8), 1.5, r"--strength: strength=1.5: needs 0 <"),
        (np.zeros((2, 8, 8, 1), np.uint8), np.nan, r"--strength: strength=nan: needs a finite"),
        (None, 0.5, "--strength=0.5: applies to --from, which is missing"),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            1,
            r"--from: is uint8 of shape \(2, 8, 8, 3\); needs uint8 or",
        ),
        (np.zeros((0, 8, 8, 1), np.uint8), 1, r"--from: is uint8 of shape \(0, 8, 8, 1\)"),
        (
            np.zeros((8, 8, 1), np.int64),
            1,
            r"--from: is int64 of shape \(8, 8, 1\); needs uint8 or",
        ),
        (np.full((8, 8, 1), 255.0), 1, r"--from: values up to 255; needs finite images in \[-1, 1"),
        ("none.png", 1, r"--from=none.png: no such file or folder of images"),
    ],
)
def test_what_samples_cannot_start_from_is_refused(start, strength, line):
    """Another image would be broadcast, or grey levels as floats be far outside of the data."""
    with pytest.raises(ConfigError, match=line):
        starting(experiment(), start, strength)


def test_files_that_are_no_items_are_refused_by_name(tmp_path):
    """A traceback of Pillow would not name the file."""
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=rf"--from={tmp_path}/a.png: a.png: unreadable"):
        stored(tmp_path / "a.png", GREY)
    np.savez(tmp_path / "a.npz", x=np.zeros(2), y=np.zeros(2))
    with pytest.raises(ConfigError, match=r"a.npz: holds x, y; needs arr_0"):
        stored(tmp_path / "a.npz", GREY)
    with pytest.raises(ConfigError, match="adaptive has no steps"):
        starting(experiment(sampler="adaptive"), np.zeros((8, 8, 1), np.uint8))
    with pytest.raises(ConfigError, match=r"a.png: .*points items"):
        stored(tmp_path / "a.png", POINTS)
