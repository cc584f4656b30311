"""Maximum mean discrepancies against kernels of scikit-learn, summed here."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from diffjax.evaluation import neighbours
from diffjax.evaluation.kernels import kernel_distance, likeness, unbiased

pytestmark = pytest.mark.typed


def features(n, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, 6)) + shift


def test_the_kernel_distance_is_the_unbiased_estimate():
    """The diagonal of the kernel would be counted, so that few samples seem worse."""
    x, y = features(40, 0), features(30, 1, 0.3)
    of = lambda a, b: polynomial_kernel(a, b, degree=3, gamma=1 / 6, coef0=1)
    without = lambda k: k[~np.eye(len(k), dtype=bool)].mean()
    exact = without(of(x, x)) + without(of(y, y)) - 2 * of(x, y).mean()
    assert unbiased(x, y) == pytest.approx(exact, rel=1e-9)
    assert kernel_distance(y, y[::-1], subsets=3, size=99)[1] == pytest.approx(0, abs=1e-12)
    mean, deviation = kernel_distance(x, y, subsets=400, size=20)
    assert mean == pytest.approx(exact, abs=4 * deviation / 20) and deviation > 0


def test_the_kernel_distance_of_one_law_is_0_in_the_mean():
    """KID would have the bias that it was designed to avoid."""
    found = [unbiased(features(10, 2 * i), features(10, 2 * i + 1)) for i in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 200**0.5


def test_likeness_is_the_mean_of_the_gaussian_kernel(monkeypatch):
    """CMMD would have another kernel width, or leave out a block."""
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    x, y = features(40, 0), features(30, 1)
    exact = rbf_kernel(x, y, gamma=1 / (2 * 3.0**2)).mean()
    assert likeness(x, y, 3.0) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("subsets", "size"), [(0, 5), (3, 1)])
def test_no_subsets_are_refused(subsets, size):
    """The mean would be NaN."""
    with pytest.raises(ValueError, match=f"{subsets} subsets of {size} items: needs"):
        kernel_distance(features(9, 0), features(9, 1), subsets, size)
