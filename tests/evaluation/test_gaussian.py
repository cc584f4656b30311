"""Frechet distances against other formulas, and delicate cases of their linear algebra."""

import numpy as np
import pytest
import scipy.linalg

from diffjax.evaluation.gaussian import distance, fitted, frechet_with_floor, gaussian

pytestmark = pytest.mark.typed


def features(n, d, seed=0):
    """Draw correlated features with a mean."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def frechet(a, b):
    return distance(fitted(a), fitted(b))


@pytest.mark.parametrize("d", [1, 3, 16])
def test_frechet_is_the_formula_with_a_matrix_root(d):
    """The symmetric product would not give the published distance."""
    a, b = features(300, d, 0), features(200, d, 1)
    cov_a, cov_b = np.cov(a.T).reshape(d, d), np.cov(b.T).reshape(d, d)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    exact = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root.real)
    assert frechet(a, b) == pytest.approx(exact, rel=1e-6)
    assert frechet(b, a) == pytest.approx(exact, rel=1e-6)
    stored = gaussian(b.mean(0), cov_b)
    assert distance(fitted(a), stored) == pytest.approx(exact, rel=1e-6)


def test_frechet_of_simple_cases():
    """Equal data, shifts or changes of scale would not have their closed forms."""
    a = features(300, 5)
    assert frechet(a, a) == pytest.approx(0, abs=1e-8 * np.trace(np.cov(a.T)))
    assert frechet(a, a + 2.0) == pytest.approx(4 * 5, rel=1e-9)
    x = features(100, 1)
    shift = (3 * x.mean() - x.mean()) ** 2
    assert frechet(x, 3 * x) == pytest.approx(shift + (2 * x.std(ddof=1)) ** 2, rel=1e-9)


def test_frechet_of_singular_covariances():
    """Constant features, or fewer samples than features, would give NaN or a complex root."""
    a, b = features(10, 20, 0), features(12, 20, 1)
    a[:, 3] = b[:, 3] = 0.5
    value = frechet(a, b)
    assert np.isfinite(value) and value > 0
    assert frechet(a, a) == pytest.approx(0, abs=1e-5 * np.trace(np.cov(a.T)))
    # Only the mean differs in a direction without variance.
    moved = a.copy()
    moved[:, 3] += 1.5
    assert frechet(a, moved) == pytest.approx(1.5**2, abs=1e-5 * np.trace(np.cov(a.T)))


def test_frechet_of_many_items_with_constant_features():
    """Pixels that are always black would give NaN, or a distance from oneself."""
    a, b = features(300, 20, 0), features(300, 20, 1)
    a[:, 5:] = a[:, :1]
    b[:, 3] = 0.5
    cross = np.linalg.norm((a - a.mean(0)) @ (b - b.mean(0)).T, "nuc") / 299
    traces = np.trace(np.cov(a.T)) + np.trace(np.cov(b.T))
    exact = ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * cross
    assert frechet(a, b) == pytest.approx(exact, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6 * np.trace(np.cov(a.T)))


@pytest.mark.parametrize("few", [0, 1])
def test_frechet_of_too_few_samples_is_refused(few):
    """The covariance would be NaN."""
    with pytest.raises(ValueError, match=rf"covariance of {few} samples: needs at least 2"):
        frechet(np.ones((few, 2)), np.ones((5, 2)))


def test_floor_is_reached_by_the_data_itself():
    """A perfect model would look imperfect, or a bad one perfect."""
    rng = np.random.default_rng(0)
    data, same, shifted = rng.normal(size=(3, 2000, 4))
    good = frechet_with_floor(same, data)
    assert (good.count, good.splits) == (1000, 8)
    assert good.ratio == pytest.approx(good.distance / good.floor)
    assert 0.5 < good.ratio < 2
    assert frechet_with_floor(shifted + 0.5, data).ratio > 20
    assert frechet_with_floor(same, data) == good  # equal splits each time


def test_floor_has_the_bias_of_its_sample_count():
    """Few samples would be compared with the floor of many."""
    rng = np.random.default_rng(0)
    data, few = rng.normal(size=(2000, 4)), rng.normal(size=(50, 4))
    small = frechet_with_floor(few, data)
    assert small.count == 50 and 0.5 < small.ratio < 2
    assert small.floor > 5 * frechet_with_floor(data, data).floor
