"""Distances in blocks, and the metrics that count neighbours, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from diffjax.evaluation import neighbours
from diffjax.evaluation.neighbours import balls, nearest, overlap, spread

pytestmark = pytest.mark.typed


@pytest.fixture(autouse=True, params=[16, 4096], ids=["blocks", "whole"])
def block(request, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


def features(n, seed, offset=0.0):
    return np.random.default_rng(seed).normal(size=(n, 5)) + offset


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("k", [1, 4])
def test_nearest_are_those_of_scikit_learn(k, offset):
    """The expanded square would be another distance or cancel, or a block be left out."""
    a, b = features(50, 0, offset), features(70, 1, offset)
    distance, index = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(b).kneighbors(a)
    found, which = nearest(a, b, k)
    np.testing.assert_allclose(found, distance, rtol=1e-8)
    np.testing.assert_array_equal(which, index)
    np.testing.assert_allclose(nearest(b[:5], b)[0], 0, atol=1e-4)


def radii(x, k):
    return NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_and_coverage_are_counted(k):
    """Precision and recall would be swapped, as a column for a row does."""
    real, fake = features(90, 0), 0.7 * features(60, 1) + 0.3
    apart = pairwise_distances(real, fake)
    inside, near = apart <= radii(real, k)[:, None], apart <= radii(fake, k)
    found = overlap(balls(real, k), balls(fake, k))
    assert found == {
        "precision": pytest.approx(inside.any(0).mean(), abs=1e-6),
        "recall": pytest.approx(near.any(1).mean(), abs=1e-6),
    }
    assert spread(balls(real, k), fake) == {
        "density": pytest.approx(inside.sum() / (k * 60), abs=1e-6),
        "coverage": pytest.approx(inside.any(1).mean(), abs=1e-6),
    }
    assert 0.1 < found["recall"] < 0.9  # otherwise the two cannot be distinguished


def test_dropped_modes_cost_recall_and_far_samples_precision():
    """Precision and recall would not show whether modes are missing or samples are poor."""
    real = np.concatenate([features(100, 0), features(100, 1, 50.0)])
    dropped = overlap(balls(real, 3), balls(features(100, 2), 3))
    assert dropped["precision"] > 0.8 and dropped["recall"] < 0.55
    far = np.concatenate([features(100, 2), features(100, 3, 500.0)])
    assert overlap(balls(real, 3), balls(far, 3))["precision"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("k", [0, 5])
def test_more_neighbours_than_there_are_others_are_refused(k):
    """A radius would be infinite, and the precision of all samples 1."""
    with pytest.raises(ValueError, match=f"k={k} neighbours of 5 items: needs 0 < k < items"):
        balls(features(5, 0), k)
