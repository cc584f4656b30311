"""Distances of clouds against all permutations, and 1-NNA against its exact mean."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from diffjax import data
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.clouds import (
    DISTANCES,
    Distances,
    across,
    chamfer,
    clouds,
    earth_movers,
    nearest_neighbour_accuracy,
    values_of,
    within,
)

RNG = np.random.default_rng(0)


def rotation(d=3):
    return np.linalg.qr(RNG.normal(size=(d, d)))[0]


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_the_earth_movers_distance_is_the_least_over_all_permutations(n):
    """An approximate assignment, as in some published codes, gives other values."""
    x, y = RNG.normal(size=(2, n, 3))
    orders = (list(p) for p in itertools.permutations(range(n)))
    every = (np.linalg.norm(x - y[order], axis=1).mean() for order in orders)
    np.testing.assert_allclose(earth_movers(x, y), min(every), rtol=1e-12)


@pytest.mark.parametrize("case", ["random", "far", "equal", "repeated", "line"])
def test_assignments_are_those_of_the_distances(case):
    """What is subtracted from rows and columns would lead to another assignment."""
    x, y = RNG.normal(size=(2, 60, 3))
    change = {"far": lambda: np.where(np.arange(60)[:, None] == 3, 1e6 * y, y)}
    change |= {"equal": lambda: 0 * y, "repeated": lambda: y[[0] * 59 + [1]]}
    y = change.get(case, lambda: y)()
    x, y = (a[:, :1] * 1e-6 for a in (x, y)) if case == "line" else (x, y)
    apart = cdist(x, y)
    expected = apart[linear_sum_assignment(apart)].mean()
    np.testing.assert_allclose(earth_movers(x, y), expected, rtol=1e-12)


def test_distances_in_closed_form():
    """In one dimension sorted points are matched; a shifted cloud is as far as it was shifted."""
    x, y = RNG.normal(size=(2, 40, 1))
    expected = np.abs(np.sort(x, 0) - np.sort(y, 0)).mean()
    np.testing.assert_allclose(earth_movers(x, y), expected, rtol=1e-12)
    cloud, shift = RNG.normal(size=(40, 3)), np.array([3.0, 4.0, 12.0])
    np.testing.assert_allclose(earth_movers(cloud, cloud + shift), 13.0, rtol=1e-12)
    grid = 10.0 * np.indices((3, 3, 3)).reshape(3, -1).T  # each point is nearest to its own copy
    shift = np.array([0, 0, 2.0])
    np.testing.assert_allclose(chamfer(grid, grid + shift), 2 * 4.0, rtol=1e-12)


@pytest.mark.parametrize(("name", "power"), [("emd", 1), ("chamfer", 2)])
def test_distances_do_not_depend_on_order_place_and_orientation_and_scale(name, power):
    distance, (x, y) = DISTANCES[name], RNG.normal(size=(2, 30, 3))
    turn, shift, value = rotation(), RNG.normal(size=3), DISTANCES[name](x, y)
    moved = [a[RNG.permutation(30)] @ turn + shift for a in (x, y)]
    np.testing.assert_allclose(distance(*moved), value, rtol=1e-9)
    np.testing.assert_allclose(distance(3 * x, 3 * y), 3**power * value, rtol=1e-9)
    np.testing.assert_allclose(distance(y, x), value, rtol=1e-12)
    assert distance(x, x[::-1]) == 0 < value


def test_the_mean_accuracy_over_all_halves_of_a_set_is_exact():
    """1-NNA of two halves would not be (N - 1) / (2 N - 1) in the mean, 0.5 for many clouds."""
    n, apart = 3, within(RNG.normal(size=(6, 4, 2)), earth_movers)
    found = []
    for chosen in itertools.combinations(range(2 * n), n):
        a, b = list(chosen), [i for i in range(2 * n) if i not in chosen]
        halves = Distances(apart[a][:, a], apart[a][:, b], apart[b][:, b])
        found.append(nearest_neighbour_accuracy(halves))
    np.testing.assert_allclose(np.mean(found), (n - 1) / (2 * n - 1), rtol=1e-12)


def test_values_are_those_of_their_definitions():
    x, y = RNG.normal(size=(2, 5, 6, 2))
    apart = Distances(within(x, chamfer), across(x, y, chamfer), within(y, chamfer))
    found, both = values_of(apart), [*x, *y]
    right = 0
    for i, cloud in enumerate(both):
        others = [(chamfer(cloud, b), j < 5) for j, b in enumerate(both) if j != i]
        right += min(others)[1] == (i < 5)
    nearest = {min(range(5), key=lambda j: chamfer(a, y[j])) for a in x}
    assert found["nna"] == right / 10 and found["coverage"] == len(nearest) / 5
    expected = np.mean([min(chamfer(a, b) for a in x) for b in y])
    np.testing.assert_allclose(found["mmd"], expected, rtol=1e-12)


@functools.cache
def real():
    """Clouds of four points, of DW4."""
    return Real(functools.partial(data.dw4, size=1000), data.Reading(), 1000, Path())


def test_real_clouds_are_at_the_floor_and_others_are_told_apart():
    """A network that draws blobs, or one and the same cloud, would look like the data."""
    found = clouds(real(), Samples(real().train.x[:100], None), resamples=3)
    assert abs(found["emd_nna"] - 0.5) < 3 * np.sqrt(0.25 / 200)
    assert abs(found["floor_emd_nna"] - 0.5) < 3 * np.sqrt(0.25 / 200)
    assert found["of"] == 100 and {*found["intervals"]} < {*found}
    small = clouds(real(), Samples(0.7 * real().train.x[:60], None), size=60, resamples=0)
    one = clouds(real(), Samples(real().train.x[:1].repeat(60, 0), None), size=60, resamples=0)
    assert small["emd_nna"] > 0.8 and one["emd_nna"] > 0.9
    assert one["emd_coverage"] == 1 / 60 < found["emd_coverage"] / 10
    assert one["emd_mmd"] > 1.5 * found["emd_mmd"]


def test_the_learned_are_told_from_the_held_out_by_copies():
    """Copies of held-out clouds are nearest to their originals, never to their own set."""
    found = clouds(real(), Samples(real().test.x[:30], None), size=30, resamples=0)
    assert found["emd_nna"] == found["emd_mmd"] == 0 and found["emd_coverage"] == 1


def test_other_items_are_refused():
    with pytest.raises(ValueError, match="sets of 3 and 4 points; needs equal numbers"):
        earth_movers(np.zeros((3, 2)), np.zeros((4, 2)))
    points = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    with pytest.raises(ValueError, match="clouds: needs clouds of points; the items are points"):
        clouds(points, Samples(points.test.x, None))
