"""Batch k is a function of (seed, k): a resumed run must see what it would have seen."""

import itertools

import numpy as np
import pytest

from diffjax.data import SOURCES, Batches, Source, read

pytestmark = pytest.mark.fast


def numbered(size: int) -> Source:
    """Items that say their own number, twice: as data and as label."""
    number = np.arange(size)
    return Source(number.astype(np.float32)[:, None], number.astype(np.int32), classes=size)


def numbers(batches: Batches, indices) -> list[int]:
    return [int(n) for k in indices for n in batches[k]["label"]]


@pytest.mark.parametrize(("size", "batch_size"), [(12, 4), (10, 4), (5, 8), (3, 10), (1, 3)])
def test_every_item_comes_once_per_epoch(size, batch_size):
    """Also where batches straddle epochs, or hold several: none lost, none twice."""
    epochs = 4 * batch_size
    seen = numbers(Batches(numbered(size), batch_size, 0), range(epochs * size // batch_size))
    for start in range(0, len(seen), size):
        assert sorted(seen[start : start + size]) == list(range(size))


def test_a_batch_has_the_size_asked_for_also_across_epochs():
    batches = Batches(numbered(10), 4, 0)
    assert [len(batches[k]["x"]) for k in range(8)] == [4] * 8


def test_a_batch_does_not_depend_on_what_was_read_before():
    """Reading from k on equals reading up to it: this is what makes a resume exact."""
    source = numbered(10)
    through = [Batches(source, 4, 3)[k]["label"] for k in range(12)]
    for k in reversed(range(12)):
        np.testing.assert_array_equal(Batches(source, 4, 3)[k]["label"], through[k])


def test_items_keep_their_labels():
    items = Batches(numbered(10), 7, 0)[2]
    np.testing.assert_array_equal(items["x"][:, 0], items["label"])


def test_another_seed_and_another_epoch_give_another_order():
    epoch = [numbers(Batches(numbered(100), 100, seed), [k]) for seed in (0, 1) for k in (0, 1)]
    for a, b in itertools.combinations(epoch, 2):
        assert a != b
        assert sorted(a) == sorted(b)


def test_two_data_sets_read_in_turn_do_not_mix_their_orders():
    """The orders are cached: sizes and seeds must not be confused."""
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
            np.testing.assert_array_equal(value, batches[k][name])
            assert value.dtype == batches[k][name].dtype


def test_read_ahead_may_be_left_early():
    """Ctrl-C leaves the loop before its end: the reading thread must not hang or raise."""
    batches = Batches(numbered(10), 4, 1)
    first = next(iter(read(batches, 2, 10**6)))
    np.testing.assert_array_equal(first["label"], batches[2]["label"])


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_can_be_batched(name):
    source = SOURCES[name]("train")
    items = Batches(source, 32, 0)[1]
    assert items["x"].shape == (32, *source.x.shape[1:])
    assert items["x"].dtype == source.x.dtype
    assert ("label" in items) == (source.label is not None)
