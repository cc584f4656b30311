"""Retrieval against a plain sort of distances."""

import functools

import numpy as np
import pytest

from diffjax.data import Memory, Reading
from diffjax.evaluate import held_out
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.evaluation.retrieval import ranks, summary


def test_ranks_are_those_of_a_sort():
    """A network that ignores its captions would look as if it drew them."""
    rng = np.random.default_rng(0)
    x, items, true = rng.normal(size=(30, 5)), rng.normal(size=(3000, 5)), rng.integers(0, 3000, 30)
    far = np.linalg.norm(x[:, None] - items, axis=2)
    wanted = [1 + np.flatnonzero(np.argsort(row) == t)[0] for row, t in zip(far, true, strict=True)]
    np.testing.assert_array_equal(ranks(x, items[true], items), wanted)
    np.testing.assert_array_equal(ranks(items[true], items[true], items), 1)
    np.testing.assert_array_equal(ranks(items[true] + 1e4, items[true] + 1e4, items + 1e4), 1)
    assert summary(np.arange(1, 101)) == {"median": 50.5, "low": 25.75, "high": 75.25, "found": 0.1}


def test_noise_ranks_in_the_middle_and_copies_first(tmp_path):
    """The chance level, half of all items, would be another one."""
    rng = np.random.default_rng(0)
    both = {split: rng.normal(size=(n, 4)).astype(np.float32) for split, n in SIZES.items()}
    real = Real(lambda split: Memory(both[split], kind="vector"), Reading(), 1000, tmp_path)
    asked = np.arange(400) % 100
    metric = functools.partial(OF_SAMPLES["retrieval"], real)
    copies = metric(Samples(both["test"][asked], None, asked))
    assert (copies["median"], copies["found"], copies["of"]) == (1.0, 1.0, 400)
    assert copies["intervals"]["found"][0] < 1
    noise = metric(Samples(rng.normal(size=(400, 4)).astype(np.float32), None, asked))
    assert 150 < noise["median"] < 250
    with pytest.raises(ValueError, match="no conditions of held-out items"):
        metric(Samples(both["test"], None))


SIZES = {"train": 300, "test": 100}


def test_samples_are_compared_with_the_items_whose_conditions_they_had():
    """Each sample would be compared with the item of another caption."""
    captions = np.zeros((100, 3), np.int32)
    wanted = [*range(100), *range(100), *range(50)]
    assert held_out({"text": captions}, 250, 100, 500).tolist() == wanted
    assert held_out({"label": np.arange(10)}, 20, 100, 500) is None
    assert held_out({"text": captions}, 20, 1000, 500) is None  # metrics see other items
