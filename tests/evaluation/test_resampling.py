"""Intervals and limits against what many repeated experiments give."""

import numpy as np
import pytest

from diffjax.evaluation.gaussian import distance, fitted, gaussian
from diffjax.evaluation.neighbours import balls, overlap
from diffjax.evaluation.resampling import WIDTH, extrapolated, with_intervals

REAL = np.random.default_rng(0).normal(size=(200, 3))
LAW, BALLS = gaussian(np.zeros(3), np.eye(3)), balls(REAL, 3)
VALUES = {
    "mean": lambda x: float(x.mean()),
    "frechet": lambda x: distance(fitted(x), LAW),
    "recall": lambda x: overlap(BALLS, balls(x, 3))["recall"],
}


@pytest.fixture
def rng():
    """Random numbers that do not depend on the tests before."""
    return np.random.default_rng(1)


def measured(value, x, resamples, label=None):
    return with_intervals(lambda rows: {"value": value(x[rows])}, len(x), resamples, label)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_intervals_are_as_wide_as_repeated_experiments_vary(value, rng):
    """A difference within the noise would be called an improvement."""
    draw = lambda: 1.3 * rng.normal(size=(200, 3)) + 0.4
    truth = np.std([value(draw()) for _ in range(60)])
    widths = []
    for _ in range(4):
        found = measured(value, draw(), 20)
        low, high = found["intervals"]["value"]
        assert low < found["value"] < high
        widths.append((high - low) / (2 * WIDTH))
    assert np.mean(widths) == pytest.approx(truth, rel=0.35)


def test_intervals_know_that_each_class_has_its_samples(rng):
    """Intervals would be too wide: samples by label have less noise than random ones."""
    label = np.repeat(np.arange(10), 6)
    x, counts = 100.0 * label + rng.normal(size=60), []
    low, high = measured(VALUES["mean"], x, 50, label)["intervals"]["value"]
    assert (high - low) / 2 == pytest.approx(WIDTH / 60**0.5, rel=0.4)
    with_intervals(lambda rows: counts.append(np.bincount(label[rows])) or {}, 60, 5, label)
    assert all((part == 3).all() for part in counts[1:])


def test_the_interval_of_a_share_ends_at_0_and_1():
    """A table would say that up to 102 % of the samples are authentic."""
    few = np.arange(40) < 1
    values = lambda rows: {"few": few[rows].mean(), "most": 1 - few[rows].mean(), "sum": 1.0}
    found = with_intervals(values, 40, 20, shares=("few", "most"))["intervals"]
    free = with_intervals(values, 40, 20)["intervals"]
    assert free["few"][0] < 0 and free["most"][1] > 1
    assert found["few"] == [0, free["few"][1]] and found["most"] == [free["most"][0], 1]
    assert found["sum"] == free["sum"] == [1, 1]


def test_a_share_of_none_is_not_known_to_be_none():
    """With no copy among 40 samples, an interval [0, 0] would say that no sample is ever a copy."""
    values = lambda rows: {"none": 0.0, "all": 1.0, "held_out": 0.5}
    found = with_intervals(values, 40, 20, shares=("none", "all"), fixed=("held_out",))
    upper = WIDTH**2 / (40 + WIDTH**2)  # |0 - p| = WIDTH sqrt(p (1 - p) / 40)
    assert abs(upper - WIDTH * (upper * (1 - upper) / 40) ** 0.5) < 1e-12
    assert found["intervals"] == {"none": [0, upper], "all": [1 - upper, 1]}
    assert found["held_out"] == 0.5


def test_no_resamples_give_no_intervals_and_one_is_refused():
    """A single resample would give NaN as an interval."""
    assert set(measured(VALUES["mean"], REAL, 0)) == {"value"}
    with pytest.raises(ValueError, match="resamples=1: needs at least 2, or 0"):
        measured(VALUES["mean"], REAL, 1)


def test_a_line_in_one_over_n_ends_at_its_limit():
    """The bias would be removed with another slope."""
    assert extrapolated(lambda rows: 3 + 7 / len(rows), 1000) == pytest.approx(3, rel=1e-9)
    with pytest.raises(ValueError, match="a line through 1 sizes of 1000 samples"):
        extrapolated(lambda rows: 0.0, 1000, points=1)


def test_the_frechet_distance_of_a_law_from_itself_is_extrapolated_to_0(rng):
    """FID_infinity would keep the bias of FID."""
    found, plain = [], []
    for _ in range(8):
        x = rng.normal(size=(1000, 3))
        found.append(extrapolated(lambda rows, x=x: distance(fitted(x[rows]), LAW), 1000))
        plain.append(distance(fitted(x), LAW))
    assert abs(np.mean(found)) < 0.4 * np.mean(plain)
