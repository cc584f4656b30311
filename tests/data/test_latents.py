"""Latents from memory maps: reading, splits and refusals."""

import re

import numpy as np
import pytest

from diffjax import plot
from diffjax.data import Batches, Reading, latents


def write(folder, x, label=None):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "latents.npy", x)
    if label is not None:
        np.save(folder / "labels.npy", label)
    return folder


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(40, 4, 4, 4)).astype(np.float16)


def test_items_are_the_rows_scaled(tmp_path, values):
    """The network would see latents of another standard deviation, or other labels."""
    label = np.arange(40) % 3
    root = str(write(tmp_path, values, label))
    train, test = (latents(split, root, scale=0.5) for split in ("train", "test"))
    assert len(train) + len(test) == 40 and not set(train.index) & set(test.index)
    assert (train.shape, train.dtype, train.classes) == ((4, 4, 4), np.float32, 3)
    items = train[np.array([2, 0])]
    rows = train.index[[2, 0]]
    np.testing.assert_array_equal(items["x"], values[rows].astype(np.float32) * 0.5)
    np.testing.assert_array_equal(items["label"], label[rows])
    assert isinstance(train.x, np.memmap)  # a set larger than memory would not be read whole


def test_split_folders_and_batches(tmp_path, values):
    write(tmp_path / "train", values[:30]), write(tmp_path / "test", values[30:])
    train, test = (latents(split, str(tmp_path)) for split in ("train", "test"))
    assert (len(train), len(test), train.classes) == (30, 10, 0)
    batch = Batches(train, 8, seed=0, reading=Reading(flip=True))[3]
    assert batch["x"].shape == (8, 4, 4, 4) and batch["x"].dtype == np.float32


def test_picture_of_latents_shows_three_channels():
    """Drawing latents during training would fail, as they may not have three channels."""
    x = np.zeros((2, 8, 8, 4), np.float32)
    x[0, ..., 1] = 3.0
    picture = plot.samples(x, kind="latent")
    assert picture.shape[-1] == 3 and picture[..., 1].max() == 255


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda p: "", "the form is name=latents:PATH"),
        (lambda p: write(p, np.zeros(3, np.float32)), "needs floats (N, ..., C)"),
        (lambda p: write(p, np.zeros((3, 4, 4, 4), np.uint8)), "uint8"),
        (lambda p: write(p, np.zeros((9, 4, 4, 4), np.float32), np.zeros(8, int)), "(9,)"),
        (lambda p: p, "latents.npy: no such file"),
    ],
    ids=["no_path", "points", "pixels", "labels", "empty"],
)
def test_what_is_no_set_of_latents_is_refused(tmp_path, made, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        latents("train", str(made(tmp_path)))
