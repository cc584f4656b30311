"""Scores of logits against their definitions by SciPy's entropies."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from diffjax.evaluation.scores import score, similarity

pytestmark = pytest.mark.typed


def test_the_score_is_the_exponential_of_the_mean_divergence():
    """Another logarithm, or the mean of logits, would give another score."""
    logits = 3 * np.random.default_rng(0).normal(size=(200, 7))
    p = softmax(logits, axis=1)
    exact = np.exp(np.mean([stats.entropy(row, p.mean(0)) for row in p]))
    assert score(logits) == pytest.approx(exact, rel=1e-9)
    assert score(logits + 1e3) == pytest.approx(exact, rel=1e-9)


def test_the_score_is_between_1_and_the_number_of_classes():
    """Certain predictions, even over 10 classes, would not score 10.

    Their other probabilities underflow to 0.
    """
    assert score(2000 * np.eye(11)[np.arange(50) % 10]) == pytest.approx(10, rel=1e-9)
    assert score(np.zeros((5, 3))) == pytest.approx(1, rel=1e-9)


def test_clip_score_is_the_cosine_of_each_pair():
    """Opposite features would lower the mean below 0."""
    x = np.random.default_rng(0).normal(size=(4, 3))
    y = np.stack([5 * x[0], -x[1], np.cross(x[2], x[3]), x[3]])
    np.testing.assert_allclose(similarity(x, y), [100, 0, 0, 100], atol=1e-9)
    turned = np.array([[1.0, 1.0, 0.0]])
    np.testing.assert_allclose(similarity(np.eye(3)[:1], turned, 2.5), 2.5 / 2**0.5)
