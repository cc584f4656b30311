"""Scores of forecasts against double sums, closed forms of Gaussians and exact expectations."""

import itertools

import numpy as np
import pytest

from diffjax.evaluation.forecasts import (
    crps,
    crps_gaussian,
    energy_score,
    rank_histogram,
    spectrum,
    spread_skill,
)


@pytest.mark.parametrize("fair", [False, True])
def test_sorted_scores_are_the_double_sum(fair):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5, 3)).round(1), rng.normal(size=(5, 3)).round(1)
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1)) / (2 * 7 * (6 if fair else 7))
    np.testing.assert_allclose(crps(x, y, fair), np.abs(x - y).mean(0) - pairs, atol=1e-12)
    one = energy_score(x[..., :1], y[:, :1], fair)
    np.testing.assert_allclose(one, crps(x[..., 0], y[:, 0], fair), atol=1e-12)


def test_fair_scores_have_the_expectation_of_infinitely_many_members():
    """Small ensembles would be punished for their size."""
    values, chance, y = np.array([-1.0, 0.5, 4.0]), np.array([0.2, 0.5, 0.3]), np.array(1.0)
    infinite = chance @ np.abs(values - y)
    infinite -= chance @ np.abs(values[:, None] - values) @ chance / 2
    for count in (2, 3, 4):
        means = [0.0, 0.0]
        for drawn in itertools.product(range(3), repeat=count):
            weight, members = chance[[*drawn]].prod(), values[[*drawn]]
            for k, fair in enumerate((False, True)):
                means[k] += weight * crps(members, y, fair)
        assert means[1] == pytest.approx(infinite, abs=1e-12)
        assert means[0] > infinite + 0.01


def test_quantiles_of_a_gaussian_have_its_closed_form():
    from scipy.special import ndtri

    members = 1 + 2 * ndtri((np.arange(20_000) + 0.5) / 20_000)
    y = np.array([-4.0, 0.0, 1.0, 2.5, 9.0])
    x = np.repeat(members[:, None], 5, 1)
    exact = crps_gaussian(np.array(1.0), np.array(2.0), y)
    np.testing.assert_allclose(crps(x, y, fair=False), exact, atol=2e-4)


def test_the_predictive_distribution_of_a_linear_process_scores_best():
    """VAR(1): x' = A x + e, e ~ N(0, Q) has N(A^k x, sum_j A^j Q A^j^T) after k steps."""
    rng, a = np.random.default_rng(1), np.array([[0.9, 0.2], [-0.1, 0.7]])
    q, k, count, members = np.array([[1.0, 0.3], [0.3, 0.5]]), 3, 4000, 20
    root = np.linalg.cholesky(q)
    start = rng.normal(size=(count, 2)) * 2
    step = lambda x: x @ a.T + rng.normal(size=x.shape) @ root.T
    y, x = start, np.repeat(start[None], members, 0)
    for _ in range(k):
        y, x = step(y), step(x)
    powers = [np.linalg.matrix_power(a, j) for j in range(k + 1)]
    mean, cov = start @ powers[k].T, sum(p @ q @ p.T for p in powers[:k])
    exact = crps_gaussian(mean, np.sqrt(np.diag(cov)), y)
    difference = (crps(x, y) - exact).mean(1)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(count)
    assert spread_skill(x, y) == pytest.approx(1, abs=0.03)
    ranks = rank_histogram(x, y)
    assert np.abs(ranks * (members + 1) - 1).max() < 0.25 and ranks.sum() == pytest.approx(1)
    narrow = x.mean(0) + 0.5 * (x - x.mean(0))
    assert spread_skill(narrow, y) == pytest.approx(spread_skill(x, y) / 2)
    assert rank_histogram(narrow, y)[[0, -1]].min() > 2 / (members + 1)
    for worse in (narrow, x + 1):
        assert crps(worse, y).mean() > crps(x, y).mean() + 0.02
        assert energy_score(worse, y).mean() > energy_score(x, y).mean() + 0.02


def test_equal_outcomes_have_flat_ranks():
    """Rain that is 0 everywhere would seem to be forecast too high."""
    ranks = rank_histogram(np.zeros((4, 20_000)), np.zeros(20_000))
    assert np.abs(5 * ranks - 1).max() < 0.1


def test_the_spectrum_of_a_gaussian_field_is_that_of_its_covariance():
    size, rng = 16, np.random.default_rng(2)
    distance = np.minimum(np.arange(size), size - np.arange(size))
    row = 0.6**distance
    exact = np.fft.rfft(row).real
    cov = np.array([np.roll(row, i) for i in range(size)])
    x = rng.normal(size=(20_000, size)) @ np.linalg.cholesky(cov).T
    np.testing.assert_allclose(spectrum(x), exact, rtol=0.06)
    wave = np.cos(2 * np.pi * 3 * np.arange(size) / size)
    np.testing.assert_allclose(spectrum(wave[None]), 4.0 * (np.arange(9) == 3), atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 4), "needs \\(M, \\*y\\)"), ((1, 5), "1 members: needs at least 2")]
)
def test_ensembles_of_other_shapes_are_refused(shape, message):
    for score in (crps, spread_skill, rank_histogram):
        with pytest.raises(ValueError, match=message):
            score(np.zeros(shape), np.zeros(5))
