"""Distances of completed clouds to the held-out ones whose points they were given."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from diffjax import data
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.completion import completion, distances, missed

RNG = np.random.default_rng(0)
WHOLE = (RNG.normal(size=(5, 12, 3)) + 4 * np.arange(5)[:, None, None]).astype(np.float32)


def real(cond):
    items = data.Memory(WHOLE, kind="cloud", cond=cond)
    return Real(lambda split: items, data.Reading(kind="cloud"), 5, Path())


def test_points_missed_are_those_a_tree_finds_far():
    """The distance would be that of the sample's points, most of which were never seen."""
    seen, x = RNG.normal(size=(7, 3)), RNG.normal(size=(40, 3))
    np.testing.assert_allclose(missed(seen, x), cKDTree(x).query(seen)[0].mean(), rtol=1e-12)
    assert missed(x[:4], x) == 0 < missed(x, x[:4])


def test_each_sample_is_compared_with_the_cloud_it_was_asked_for():
    """Samples in another order than the items would look like bad completions, or good ones."""
    seen, asked = WHOLE[:, :3], np.array([3, 0, 4, 3])
    x = WHOLE[asked] + np.float32([0.3, 0.0, 0.4])
    found = completion(real({"seen": seen}), Samples(x, None, asked), resamples=0)
    each = distances(x, WHOLE[asked], seen[asked])
    np.testing.assert_allclose(each["emd"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(found["emd"], 0.5, rtol=1e-5)
    assert found["of"] == 4 and found["missed"] <= 0.5 + 1e-6
    assert all(found[f"other_{k}"] > 3 * found[k] for k in ("emd", "chamfer", "missed"))
    few = completion(real({"seen": seen}), Samples(x, None, asked), size=2, resamples=0)
    np.testing.assert_allclose(few["chamfer"], each["chamfer"][:2].mean(), rtol=1e-12)


@pytest.mark.parametrize(
    ("cond", "asked", "part"),
    [
        ({}, np.arange(5), "needs items with the condition seen"),
        ({"seen": WHOLE[:, :3]}, None, "not made for held-out clouds"),
    ],
)
def test_what_cannot_be_compared_is_refused(cond, asked, part):
    with pytest.raises(ValueError, match=part):
        completion(real(cond), Samples(WHOLE, None, asked))
