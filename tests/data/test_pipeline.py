"""Batch k depends only on (seed, k), so that a resumed run sees the same batches."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest

from diffjax.config import ConfigError
from diffjax.data import Batches, Memory, Reading, centre, folder, load, read, tfds, to_uint8
from diffjax.data.augment import Affine
from diffjax.data.form import labelled

pytestmark = pytest.mark.typed


def numbered(size: int) -> Memory:
    """Items whose data and labels are their numbers."""
    number = np.arange(size)
    return Memory(number.astype(np.float32)[:, None], number.astype(np.int32), classes=size)


def numbers(batches: Batches, indices) -> list[int]:
    return [int(n) for k in indices for n in batches[k]["label"]]


@pytest.mark.parametrize(("size", "batch_size"), [(12, 4), (10, 4), (5, 8), (3, 10), (1, 3)])
def test_every_item_comes_once_per_epoch(size, batch_size):
    """An item would be lost or repeated where a batch straddles epochs or holds several."""
    epochs = 4 * batch_size
    seen = numbers(Batches(numbered(size), batch_size, 0), range(epochs * size // batch_size))
    for start in range(0, len(seen), size):
        assert sorted(seen[start : start + size]) == list(range(size))


def test_a_batch_has_the_size_asked_for_also_across_epochs():
    batches = Batches(numbered(10), 4, 0)
    assert [len(batches[k]["x"]) for k in range(8)] == [4] * 8


def test_a_batch_does_not_depend_on_what_was_read_before():
    """Resuming at batch k would give other batches than reading up to it."""
    source = numbered(10)
    through = [Batches(source, 4, 3)[k]["label"] for k in range(12)]
    for k in reversed(range(12)):
        np.testing.assert_array_equal(Batches(source, 4, 3)[k]["label"], through[k])


@pytest.mark.parametrize("reading", [Reading(flip=True, crop=3), Reading(balanced=True)])
def test_rows_of_a_batch_do_not_depend_on_who_reads_them(reading):
    """Two hosts would train on other images, or mirror them in another way, than one."""
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 1), np.uint8)
    source, parts = Memory(x, np.arange(20) % 3, classes=3), (np.arange(4), np.array([4, 7]))
    whole = Batches(source, 8, 1, reading)[5]
    for rows in parts:
        part = Batches(source, 8, 1, reading, rows)[5]
        np.testing.assert_array_equal(part["x"], whole["x"][rows])
        np.testing.assert_array_equal(part["label"], whole["label"][rows])


def test_items_keep_their_labels():
    items = Batches(numbered(10), 7, 0)[2]
    np.testing.assert_array_equal(items["x"][:, 0], items["label"])


def test_another_seed_and_another_epoch_give_another_order():
    epoch = [numbers(Batches(numbered(100), 100, seed), [k]) for seed in (0, 1) for k in (0, 1)]
    for a, b in itertools.combinations(epoch, 2):
        assert a != b
        assert sorted(a) == sorted(b)


def test_two_data_sets_read_in_turn_do_not_mix_their_orders():
    """Data sets of other sizes or seeds would share one cached order."""
    a, b = Batches(numbered(10), 10, 0), Batches(numbered(20), 20, 0)
    first = numbers(a, [0])
    assert sorted(numbers(b, [0])) == list(range(20))
    assert numbers(a, [0]) == first


def test_a_very_late_batch_can_be_read():
    assert len(Batches(numbered(10), 4, 0)[10**12]["x"]) == 4


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (7, 12), (3, 4)])
def test_read_yields_just_the_batches_asked_for(start, stop):
    batches = Batches(numbered(10), 4, 1)
    got = list(read(batches, start, stop))
    assert len(got) == stop - start
    for item, k in zip(got, range(start, stop), strict=True):
        assert item.keys() == batches[k].keys()
        for name, value in item.items():
            np.testing.assert_array_equal(value, batches[k][name][None])
            assert value.dtype == batches[k][name].dtype


def test_read_ahead_may_be_left_early():
    """The reading thread would hang or raise when ctrl-C leaves the loop early."""
    batches = Batches(numbered(10), 4, 1)
    first = next(iter(read(batches, 2, 10**6)))
    np.testing.assert_array_equal(first["label"][0], batches[2]["label"])


UNEQUAL = Memory(np.arange(40.0, dtype=np.float32)[:, None],
                 np.repeat(np.array([0, 1, 3], np.int32), (1, 36, 3)), classes=4)  # fmt: skip
"""Classes of 1, 36, 0 and 3 items."""


@pytest.mark.parametrize("batch_size", [1, 4, 6, 10])
def test_balanced_batches_hold_each_class_equally_often(batch_size):
    """A rare class would hardly be learned.

    Classes are equally frequent up to rounding, also where batches straddle rounds.
    """
    batches = Batches(UNEQUAL, batch_size, 0, Reading(balanced=True))
    for count in (1, 5, 36):
        label = np.concatenate([batches[k]["label"] for k in range(count)])
        often = np.bincount(label, minlength=4)
        assert often[2] == 0
        assert np.ptp(often[[0, 1, 3]]) <= 1


def test_balanced_every_item_comes_once_per_epoch_of_its_class_and_orders_differ():
    """A third of the items of a large class would be missing, as in draws with replacement."""
    batches = Batches(UNEQUAL, 9, 0, Reading(balanced=True))
    items = np.concatenate([batches[k]["x"][:, 0] for k in range(24)]).astype(int)
    label = UNEQUAL.labels()[items]
    for kind in (0, 1, 3):
        ours, size = items[label == kind], (UNEQUAL.labels() == kind).sum()
        epochs = ours.reshape(-1, size)
        assert all(len(set(epoch)) == size for epoch in epochs)
    assert not np.array_equal(*items[label == 1].reshape(2, 36))
    rounds = label.reshape(-1, 3)
    assert len({tuple(r) for r in rounds}) == 6


def test_balanced_batches_are_functions_of_seed_and_number():
    reading = Reading(balanced=True)
    through = [Batches(UNEQUAL, 7, 3, reading)[k]["x"] for k in range(12)]
    for k in reversed(range(12)):
        np.testing.assert_array_equal(Batches(UNEQUAL, 7, 3, reading)[k]["x"], through[k])
    assert not np.array_equal(Batches(UNEQUAL, 7, 4, reading)[0]["x"], through[0])


def test_the_labels_of_a_source_are_those_of_its_items(source):
    """No class would be balanced, as other labels would be counted."""
    data = source("train")
    items = data[np.arange(len(data))]
    label = items.get("label", np.zeros(len(data), np.int32))
    np.testing.assert_array_equal(data.labels(), label)
    assert data.labels().dtype == np.int32


def on_device(x, **settings):
    made = jax.jit(Reading(**settings).on_device)(jax.random.key(0), {"x": x})
    return jax.device_get(made)


def test_dequantized_values_are_uniform_within_their_grey_level():
    """Noise of another distribution would give another bound on the likelihood."""
    x = np.resize(np.array([0, 1, 128, 255], np.uint8), (64, 16, 16, 1))
    made = on_device(x, dequantize=True)
    assert made.keys() == {"x"}
    np.testing.assert_array_equal(to_uint8(made["x"]), x)
    off = (made["x"] - (x / 127.5 - 1)) * 127.5
    assert np.abs(off).max() <= 0.5001
    assert abs(off.mean()) < 0.01 and abs(off.var() - 1 / 12) < 0.002
    assert 1 < np.abs(made["x"]).max() <= 256 / 255


def test_the_device_augments_and_keeps_the_labels():
    x = images(16).x
    np.testing.assert_allclose(on_device(x)["x"], x / 127.5 - 1, atol=1e-6)
    told = on_device(x, augment=Affine(p=0.5))
    assert told["kept"]["augment"].shape == (16, 9)
    assert np.abs(told["x"] - on_device(x)["x"]).max() > 0.1
    silent = on_device(x, augment=Affine(p=0.5, labels=False))
    assert silent["kept"] == {}
    np.testing.assert_array_equal(silent["x"], told["x"])


def test_every_source_can_be_batched(source):
    data = source("train")
    items = Batches(data, 32, 0)[1]
    assert items["x"].shape == (32, *data.form.shape)
    assert items["x"].dtype == data.form.dtype
    assert ("label" in items) == bool(data.form.classes)


def images(size: int, side: int = 8, channels: int = 3) -> Memory:
    """Random images; the label is the number of the image."""
    x = np.random.default_rng(0).integers(0, 256, (size, side, side, channels), np.uint8)
    return Memory(x, np.arange(size, dtype=np.int32), classes=size)


@pytest.fixture(params=["memory", "folder", "tfds"])
def pictures(request):
    """Return 8 x 8 x 3 images, from memory or decoded when they are read."""
    if request.param == "memory":
        return images(30)
    if request.param == "folder":
        return folder("train", path=str(request.getfixturevalue("tiny_folder")))
    return tfds("train", dataset="tiny", data_dir=str(request.getfixturevalue("tiny_tfds")))


ALL = Reading(labels=True, flip=True, crop=5)


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("per_item", [1, 5])
@pytest.mark.parametrize("start", [0, 5])
def test_batches_are_the_same_for_any_number_of_threads_and_any_stack(
    pictures, workers, per_item, start
):
    """A run could be repeated on one machine only, or not be resumed."""
    batches = Batches(pictures, 7, 3, ALL)
    got = list(read(batches, start, 15, per_item, workers))
    assert len(got) == (15 - start) // per_item
    for i, stack in enumerate(got):
        first = start + i * per_item
        one_by_one = [batches[k] for k in range(first, first + per_item)]
        assert stack["x"].shape == (per_item, 7, 5, 5, 3)
        assert_equal(stack, {n: np.stack([b[n] for b in one_by_one]) for n in one_by_one[0]})


def test_a_source_and_its_copy_in_memory_give_the_same_batches(pictures):
    """Whether a data set fits into `data.memory` would change the run."""
    a, b = (Batches(s, 7, 3, ALL) for s in (pictures, load(pictures)))
    for k in range(8):
        assert_equal(a[k], b[k])


def test_an_image_is_mirrored_with_chance_one_half_else_left():
    source = images(50)
    mirrored = []
    for k in range(10):
        items = Batches(source, 40, 0, Reading(flip=True))[k]
        for x, i in zip(items["x"], items["label"], strict=True):
            mirrored.append(np.array_equal(x, source.x[i, :, ::-1]))
            assert mirrored[-1] or np.array_equal(x, source.x[i])
    assert 0.4 < np.mean(mirrored) < 0.6


def test_mirroring_depends_on_the_seed_and_the_batch_alone():
    source = Memory(np.tile(images(1).x, (16, 1, 1, 1)))
    seen = {
        (seed, k): Batches(source, 16, seed, Reading(flip=True))[k]["x"].tobytes()
        for seed in (0, 1)
        for k in (0, 1)
    }
    assert len(set(seen.values())) == 4
    for (seed, k), x in reversed(seen.items()):
        assert Batches(source, 16, seed, Reading(flip=True))[k]["x"].tobytes() == x


def test_mirroring_and_cropping_leave_the_data_as_they_are():
    """An image would be mirrored again and again, if the source itself were changed."""
    source = images(10)
    before = source.x.copy()
    for reading in (Reading(flip=True), Reading(crop=8, flip=True), ALL):
        for k in range(5):
            Batches(source, 10, 0, reading)[k]
    np.testing.assert_array_equal(source.x, before)


def test_a_crop_is_a_window_of_the_image_and_its_corner_varies_over_the_whole_range():
    """A wrong range would lose the border. Each pixel states its place, which shows the window."""
    place = np.arange(9 * 10, dtype=np.uint8).reshape(1, 9, 10, 1)
    source, corners = Memory(np.tile(place, (20, 1, 1, 3))), set()
    for k in range(40):
        for x in Batches(source, 20, 0, Reading(crop=6))[k]["x"]:
            top, left = divmod(int(x[0, 0, 0]), 10)
            np.testing.assert_array_equal(x, source.x[0, top : top + 6, left : left + 6])
            corners.add((top, left))
    assert corners == set(itertools.product(range(4), range(5)))


def test_a_crop_of_the_size_of_the_images_leaves_them_whole():
    assert_equal(Batches(images(9), 4, 0, Reading(crop=8))[1], Batches(images(9), 4, 0)[1])


def test_centre_is_the_middle_and_nothing_at_zero():
    x = images(2).x
    np.testing.assert_array_equal(centre(x, 4), x[:, 2:6, 2:6])
    assert centre(x, 0) is x


def test_the_shape_of_an_item_is_that_after_cropping():
    for reading in (Reading(), Reading(crop=5)):
        batch = Batches(images(9), 4, 0, reading)[0]
        assert batch["x"].shape[1:] == reading.shape(images(9))


@pytest.mark.parametrize(
    ("reading", "source", "message"),
    [
        (Reading(labels=True), Memory(images(4).x), "labels=True"),
        (Reading(flip=True), numbered(4), "flip=True: vectors"),
        (Reading(crop=1), numbered(4), "crop=1: vectors"),
        (Reading(crop=9), images(4), "crop=9: is larger than the images"),
        (Reading(crop=7), Memory(np.zeros((2, 9, 6, 3), np.uint8)), "crop=7: is larger"),
        (Reading(balanced=True), Memory(images(4).x), "balanced=True: this data set has no"),
        (Reading(dequantize=True), numbered(4), "dequantize=True: needs uint8 images"),
        (Reading(augment=Affine()), numbered(4), "augment: needs images"),
    ],
)
def test_what_a_source_does_not_allow_is_refused(reading, source, message):
    with pytest.raises(ValueError, match=message):
        reading.check(source)


def test_what_a_source_allows_is_not_refused():
    Reading(labels=True, flip=True, crop=8).check(images(4))
    Reading(labels=True).check(numbered(4))


@pytest.mark.parametrize("settings", [{"crop": -1}, {"workers": 0}])
def test_settings_of_reading_out_of_range_are_refused(settings):
    [(name, value)] = settings.items()
    with pytest.raises(ValueError, match=f"{name}={value}: needs {name} >="):
        Reading(**settings)


class Counting:
    """Points that count their reads, and that fail from read `until` on."""

    form = labelled("vector", (1,))

    def __init__(self, until: int = 2**62):
        self.calls, self.until, self.lock = 0, until, threading.Lock()

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        with self.lock:
            self.calls += 1
            if self.calls >= self.until:
                raise ConfigError("item.png: unreadable")
        return {"x": np.zeros((len(index), 1), np.float32)}

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32)


@pytest.mark.parametrize(("workers", "per_item"), [(1, 1), (1, 5), (4, 3)])
def test_no_more_is_read_ahead_than_promised(workers, per_item):
    """Waiting batches of large images would fill the memory."""
    source = Counting()
    batches = read(Batches(source, 2, 0), 0, 10**6, per_item, workers)
    next(batches)
    time.sleep(0.5)
    assert per_item < source.calls <= (workers + 2) * per_item


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_in_a_reading_thread_ends_the_reading(workers):
    """The run would wait for ever for a thread that has failed."""
    batches = read(Batches(Counting(until=4), 2, 0), 0, 100, 1, workers)
    with pytest.raises(ConfigError, match=r"item\.png"):
        list(batches)
