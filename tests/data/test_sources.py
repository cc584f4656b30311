"""Data sources: shapes, ranges, splits; every entry of the catalogue obeys the same rules."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from diffjax.data import (
    Memory,
    Source,
    checkerboard,
    digits,
    load,
    moons,
    to_float,
    to_uint8,
)
from diffjax.data.form import labelled


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_are_uint8_images_or_float_points_with_labels_in_range(source, split):
    data = source(split)
    assert isinstance(data, Source)
    items = data[np.arange(len(data))]
    x, form = items["x"], data.form
    assert x.shape == (len(data), *form.shape)
    stored = {"image": "uint8", "video": "uint8", "audio": "int16"}
    assert x.dtype == form.dtype == stored.get(form.kind, "float32")
    assert len(data) > 0
    inside = np.arange(x.shape[1]) < items["length"][:, None] if form.ends else ...
    assert np.isfinite(x[inside]).all() and form.ends == bool(np.isnan(x).any())
    if form.classes:
        assert items["label"].dtype == np.int32
        assert items["label"].shape == (len(data),)
        assert set(np.unique(items["label"])) == set(range(form.classes))
    else:
        assert items.keys() == {"x", *form.names}


def test_data_are_the_same_each_time(source):
    """A resumed run would train on other data."""
    for split in ("train", "test"):
        a, b = load(source(split)), load(source(split))
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.label, b.label)


def test_items_are_given_in_the_order_asked_for(source):
    """Images would have the labels of other images."""
    data = source("train")
    every, index = load(data), np.array([7, 0, 3, 7])
    items = data[index]
    np.testing.assert_array_equal(items["x"], every.x[index])
    if data.form.classes:
        np.testing.assert_array_equal(items["label"], every.label[index])


def test_train_and_test_share_no_item(source):
    """Held-out data that were trained on hide memorization."""
    train, test = (_rows(load(source(split))) for split in ("train", "test"))
    assert not {*train} & {*test}


def _rows(items: Memory) -> list[bytes]:
    """Return each item with its conditions but the label."""
    columns = [items.x, *items.cond.values()]
    return [b"".join(part.tobytes() for part in row) for row in zip(*columns, strict=True)]


def test_an_unknown_split_is_refused_with_the_known_ones(source):
    with pytest.raises(ValueError, match=r"split='valid'.*known: train, test"):
        source("valid")


class Lazy:
    """Numbered points that are computed on request, with a record of the largest request."""

    form = labelled("points", (2,), 9999)

    def __init__(self, size: int):
        self.size, self.most = size, 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        self.most = max(self.most, len(index))
        x = np.stack([index, -index], 1).astype(np.float32)
        return {"x": x, "label": index.astype(np.int32)}

    def labels(self) -> np.ndarray:
        return np.arange(self.size, dtype=np.int32)


def test_load_gives_the_items_that_indexing_gives():
    """Items at the seam of two blocks would be lost, or all be read at once."""
    lazy = Lazy(2500)
    loaded = load(lazy)
    assert isinstance(loaded, Memory)
    assert loaded.form == lazy.form and loaded.dtype == lazy.form.dtype
    np.testing.assert_array_equal(loaded.x[:, 0], np.arange(2500))
    np.testing.assert_array_equal(loaded.label, np.arange(2500))
    assert lazy.most < 2500


@pytest.mark.parametrize("of", [lambda s: s, load], ids=["lazy", "memory"])
def test_load_reads_only_the_items_asked_for_in_their_order(of):
    index = np.array([5, 2, 2, 19])
    loaded = load(of(Lazy(20)), index)
    assert len(loaded) == 4
    np.testing.assert_array_equal(loaded.x, np.stack([index, -index], 1))
    np.testing.assert_array_equal(loaded.label, index)


def test_load_gives_a_source_in_memory_back_as_it_is():
    """A copy would double the memory."""
    data = Memory(np.zeros((4, 2), np.float32))
    assert load(data) is data
    assert load(data, np.array([1])).label is None


def test_train_and_test_digits_are_together_all_digits():
    """One of the 1,797 images would be in both splits or in none, or have another label."""
    pixels, target = load_digits(return_X_y=True)
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1500, 297)
    together = np.concatenate([train.x, test.x]).reshape(1797, 64)
    label = np.concatenate([train.label, test.label])
    original = np.round(pixels * (255 / 16)).astype(np.uint8)
    mine = np.column_stack([together, label])
    theirs = np.column_stack([original, target])
    for a, b in zip(
        np.unique(mine, axis=0, return_counts=True),
        np.unique(theirs, axis=0, return_counts=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_digits_are_shuffled_before_the_split():
    """The test split would hold unseen writers only, as the files are ordered by writer."""
    _, target = load_digits(return_X_y=True)
    assert (digits("train").label != target[:1500]).mean() > 0.5
    share = np.bincount(digits("test").label, minlength=10) / 297
    assert share.min() > 0.05


def test_digits_use_the_full_range_of_grey_levels():
    x = digits("train").x
    assert x.shape == (1500, 8, 8, 1)
    assert (x.min(), x.max()) == (0, 255)
    assert len(np.unique(x)) == 17


@pytest.mark.parametrize("make", [moons, checkerboard])
def test_toy_data_have_about_unit_scale_and_zero_mean(make):
    """Networks and schedules would see data far from the sigma_data of 1 that they assume."""
    x = make("train").x
    assert np.abs(x.mean(0)).max() < 0.1
    assert 0.5 < x.std() < 1.5


def test_settings_of_toy_data_are_obeyed():
    assert len(moons("train", size=7)) == 7
    assert len(checkerboard("test", size=7)) == 7


def test_moons_without_noise_lie_on_their_half_circles():
    data = moons("train", size=500, noise=0.0)
    centre = np.where(data.label[:, None] == 0, [-0.5, -0.25], [0.5, 0.25])
    np.testing.assert_allclose(np.linalg.norm(data.x - centre, axis=1), 1, atol=1e-6)
    assert (((data.x - centre)[:, 1] > 0) == (data.label == 0)).mean() > 0.99


def test_checkerboard_fills_the_dark_squares_and_no_others():
    cell = np.floor(checkerboard("train").x / (1.7 / 2) + 2).astype(int)
    assert cell.min() == 0
    assert cell.max() == 3
    colour = cell.sum(1) % 2
    assert (colour == colour[0]).all()
    assert len(np.unique(cell, axis=0)) == 8


def test_all_grey_levels_survive_the_way_to_floats_and_back():
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    there = to_float(jnp.asarray(x))
    assert there.dtype == jnp.float32
    assert (float(there.min()), float(there.max())) == (-1, 1)
    back = to_uint8(np.asarray(there))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, x)


def test_floats_beyond_the_range_are_clipped_not_wrapped():
    """An over-bright pixel would wrap around and be black."""
    np.testing.assert_array_equal(to_uint8(np.array([-9.0, -1.01, 1.01, 9.0])), [0, 0, 255, 255])


def test_floats_go_to_the_nearest_grey_level():
    level = np.array([0.4, 0.6, 254.4, 254.6])
    np.testing.assert_array_equal(to_uint8(level / 127.5 - 1), [0, 1, 254, 255])


def test_points_are_left_as_they_are():
    x = jnp.asarray([[3.0, -4.0]])
    np.testing.assert_array_equal(to_float(x), x)


def test_digits_without_some_classes_keep_ten():
    """A network of some digits could not learn the others later."""
    some, whole = digits("train", only=(3, 5)), digits("train")
    wanted = np.isin(whole[np.arange(len(whole))]["label"], (3, 5))
    np.testing.assert_array_equal(some.x, whole.x[wanted])
    assert some.form.classes == 10
    assert np.sum(digits("train", only=(3, 5, 5)).label == 5) == 2 * np.sum(some.label == 5)
    with pytest.raises(ValueError, match="only: 10 is no digit"):
        digits("train", only=(3, 10))
