"""Metrics of tables: closed forms of their distances, floors, copies, and what can be learnt."""

import functools
import json

import numpy as np
import pytest
from scipy import stats

from diffjax.data import Memory, Reading
from diffjax.data.kinds.table import quantile
from diffjax.evaluation import OF_SAMPLES, Real, Samples
from diffjax.evaluation.tables import (
    column_distances,
    correlation_error,
    kolmogorov_smirnov,
    total_variation,
)

NAMES = ("columns", "closest_record", "downstream")


def rows(count: int, seed: int) -> np.ndarray:
    """Return rows of a number a, a category b by the sign of a, and a number c = a + noise."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=count)
    b = np.where(a[:, None] > 0, [-1, 1], [1, -1])
    return np.column_stack([a, b, a + 0.1 * rng.normal(size=count)]).astype(np.float32)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    known = quantile(np.exp(np.random.default_rng(3).normal(size=500)))
    columns = {"a": {"mean": 5.0, "std": 2.0}, "b": {"levels": ["no", "yes"]}, "c": known}
    source = lambda split: Memory(
        rows(600, len(split)), kind="table", units=(("columns", columns),)
    )
    return Real(source, Reading(), 600, tmp_path_factory.mktemp("tables"))


def test_kolmogorov_smirnov_is_that_of_scipy():
    """Ties would count on one side alone."""
    rng = np.random.default_rng(0)
    for a, b in [
        (rng.normal(size=70), rng.normal(size=45) + 0.3),
        (rng.integers(0, 4, 60) * 1.0, rng.integers(1, 5, 33) * 1.0),
    ]:
        assert kolmogorov_smirnov(a, b) == pytest.approx(stats.ks_2samp(a, b)[0], abs=1e-12)


def test_distances_of_columns_in_closed_form():
    """A category would be compared by the order of its names."""
    a = {"n": np.array([1.0, 2.0, 3.0, 4.0]), "k": np.array(["x", "x", "y", "z"])}
    b = {"n": np.array([1.0, 2.0, 9.0, 9.0]), "k": np.array(["x", "y", "y", "y"])}
    assert column_distances(a, b) == {"n": 0.5, "k": 0.5}
    assert total_variation(np.array(["x"]), np.array(["y"])) == 1.0


def test_errors_of_correlations_are_those_of_numpy():
    x, y = rows(50, 0), rows(40, 1)
    exact = np.abs(np.corrcoef(x.T.astype(float)) - np.corrcoef(y.T.astype(float))).max()
    assert correlation_error(x, y) == pytest.approx(exact, abs=1e-9)
    x[:, 0] = 3.0
    assert correlation_error(x, x) == 0 and np.isfinite(correlation_error(x, y))


@pytest.mark.parametrize("name", NAMES)
def test_results_are_finite_and_reproducible(name, real):
    """The output would not be JSON, or the numbers would change between runs."""
    settings = {"resamples": 3} if name != "downstream" else {}
    metric = functools.partial(OF_SAMPLES[name], real, Samples(rows(300, 9), None), **settings)
    found = metric()
    assert found == metric() and json.loads(json.dumps(found)) == found
    assert isinstance(next(iter(found.values())), float)
    for key, (low, high) in found.get("intervals", {}).items():
        assert low <= found[key] <= high


@pytest.mark.parametrize("name", NAMES)
def test_items_that_are_no_rows_are_refused(name, tmp_path):
    images = lambda split: Memory(np.zeros((9, 4, 4, 1), np.uint8), kind="image")
    real = Real(images, Reading(), 9, tmp_path)
    with pytest.raises(ValueError, match=f"^{name}: needs rows of a table; the items are image"):
        OF_SAMPLES[name](real, Samples(real.test.x, None))


def test_exact_samples_are_at_the_floor_and_shifted_ones_are_not(real):
    """A floor that is no floor would excuse any samples."""
    measure = functools.partial(OF_SAMPLES["columns"], real, resamples=0)
    exact = measure(Samples(rows(600, 9), None))
    assert exact["largest"] < 1.63 * np.sqrt(2 / 600)  # two sets of 600, at 1 %
    assert exact["floor_largest"] < 1.63 * np.sqrt(2 / 600)
    shifted = measure(Samples(rows(600, 9) + np.array([1, 0, 0, 0], np.float32), None))
    assert shifted["by_column"]["a"] == shifted["largest"] > 0.3
    flipped = measure(Samples(rows(600, 9) * np.array([-1, 1, 1, 1], np.float32), None))
    assert flipped["correlation"] > 1.5 > 10 * exact["correlation"]


def test_copies_are_found_and_fresh_rows_are_as_near_as_held_out_ones(real):
    measure = functools.partial(OF_SAMPLES["closest_record"], real, resamples=0)
    copies = measure(Samples(real.train.x[:100], None))
    assert copies["copies"] == 1 and copies["ratio"] < 1e-3
    fresh = measure(Samples(rows(600, 9), None))
    assert fresh["copies"] == 0 and 0.8 < fresh["ratio"] < 1.25


def test_what_can_be_learnt_from_samples_is_measured_on_held_out_rows(real):
    """Shuffled columns have the right distances and teach nothing."""
    samples = Samples(rows(600, 9), None)
    number = OF_SAMPLES["downstream"](real, samples, target="c", log=True)
    assert number["score"] > 0.9 and abs(number["score"] - number["real"]) < 0.05
    assert number["shuffled"] < 0.1 and number["rows"] == 600
    category = OF_SAMPLES["downstream"](real, samples, target="b")
    assert category["score"] > 0.97 and category["shuffled"] < 0.7
    for settings, message in [
        ({"target": "d"}, "target='d': no such column; known: a, b, c"),
        ({"target": "b", "log": True}, "b is a category; needs a column of numbers"),
        ({"target": "a", "log": True}, "log=True: a is -"),
    ]:
        with pytest.raises(ValueError, match=message):
            OF_SAMPLES["downstream"](real, samples, **settings)
