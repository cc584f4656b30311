"""Copies are distinguished from new samples; statistics agree with SciPy's definitions."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import pairwise_distances

from diffjax.evaluation.copies import centres, compared, data_copying, near, z_score

pytestmark = pytest.mark.typed

TRAIN, HELD_OUT, FRESH = np.random.default_rng(0).normal(size=(3, 400, 5))
CENTRES = centres(TRAIN, 5)


def of(x):
    return near(x, TRAIN, CENTRES)._asdict()


def test_copies_are_distinguished_from_new_samples():
    """A model that copies its training set would pass as a good one."""
    new, copied = (compared(of(x), of(HELD_OUT)) for x in (FRESH, TRAIN[:200] + 1e-3))
    assert new["ratio"] == pytest.approx(1, abs=0.15) and new["closer"] < 0.05
    assert abs(new["c_t"]) < 3 and 0.4 < new["authenticity"] < 0.8
    assert new["authenticity"] == pytest.approx(new["authenticity_held_out"], abs=0.1)
    assert copied["ratio"] < 0.01 and copied["closer"] == 1
    assert copied["c_t"] < -6 and copied["authenticity"] == 0
    assert copied["samples"] == pytest.approx(np.sqrt(5) * 1e-3, rel=1e-3)
    assert copied["held_out"] == new["held_out"]


def test_the_z_score_is_that_of_the_mann_whitney_test():
    """Ties, or the sign of the difference, would not be those of the Mann-Whitney test."""
    rng = np.random.default_rng(0)
    for n, m in ((30, 50), (1, 1), (7, 2)):
        a, b = rng.integers(0, 9, n).astype(float), rng.integers(2, 11, m).astype(float)
        u = stats.mannwhitneyu(a, b).statistic
        exact = (u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5
        assert z_score(a, b) == pytest.approx(exact, rel=1e-9)
    far, close = rng.normal(size=(2, 2000)) + np.array([[0.0], [-0.1]])
    p = stats.mannwhitneyu(close, far, alternative="less", use_continuity=False).pvalue
    assert stats.norm.cdf(z_score(close, far)) == pytest.approx(p, rel=1e-6)


def test_cells_are_weighed_by_their_held_out_items():
    """A cell without samples would count, or rare cells count as much as common ones."""
    rng = np.random.default_rng(1)
    ours = {"distance": rng.random(60), "cell": rng.integers(0, 3, 60)}
    theirs = {"distance": rng.random(90), "cell": rng.integers(0, 4, 90)}
    scores, shares = [], []
    for cell in range(3):
        a, b = (f["distance"][f["cell"] == cell] for f in (ours, theirs))
        u = stats.mannwhitneyu(a, b).statistic
        scores.append(
            (u - a.size * b.size / 2) / (a.size * b.size * (a.size + b.size + 1) / 12) ** 0.5
        )
        shares.append(b.size)
    assert data_copying(ours, theirs) == pytest.approx(np.average(scores, weights=shares), rel=1e-9)


def test_authentic_samples_are_farther_than_training_items_are_from_each_other():
    """The sample's neighbour would be compared with the wrong distance.

    It is the distance of a training item to the nearest other training item, not to itself or a
    sample.
    """
    found = of(FRESH)
    apart, within = pairwise_distances(FRESH, TRAIN), pairwise_distances(TRAIN)
    np.fill_diagonal(within, np.inf)
    first = apart.argmin(1)
    np.testing.assert_array_equal(found["index"], first)
    np.testing.assert_array_equal(found["authentic"], apart.min(1) > within.min(1)[first])


def test_held_out_copies_are_no_baseline():
    """The ratio would be a division by 0."""
    with pytest.raises(ValueError, match="memorization has no baseline"):
        compared(of(FRESH), of(TRAIN) | {"distance": np.zeros(400)})
