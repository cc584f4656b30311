"""Files of statistics: those of other programs are read, ours say what they are of."""

import json
import re

import numpy as np
import pytest

from diffjax.evaluation import reference
from diffjax.evaluation.moments import moments

pytestmark = pytest.mark.typed

FACTS = {
    "extractor": "inception",
    "fingerprint": "0123456789ab",
    "about": "standard weights; images to 299 x 299 as tensorflow1",
    "shape": [32, 32, 3],
    "range": "0 to 255",
    "items": 50,
    "data": "ba9876543210",
}
X = np.random.default_rng(0).normal(size=(50, 4))


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "new" / "statistics.npz"
    reference.write(path, {"pool": moments(X), "spatial": moments(X[:, :2])}, FACTS)
    return path


def test_statistics_are_read_as_they_were_written(stored):
    """Other programs read mu and sigma; a result says which file they are of."""
    mean, covariance, told = reference.read(stored, "pool", 4, FACTS)
    np.testing.assert_allclose(mean, X.mean(0))
    np.testing.assert_allclose(covariance, np.cov(X.T))
    np.testing.assert_allclose(reference.read(stored, "spatial", 2, FACTS)[0], X.mean(0)[:2])
    assert told["protocol"] == FACTS and len(told["sha256"]) == 12
    with np.load(stored) as file:
        assert set(file.files) == {"mu", "sigma", "mu_s", "sigma_s", "protocol"}
        assert json.loads(str(file["protocol"])) == FACTS


def test_other_items_may_be_compared_with(stored):
    """Else no statistics but those of the same items would be of use."""
    reference.read(stored, "pool", 4, FACTS | {"items": 7, "data": ""})


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("extractor", "dinov2_b14"),
        ("fingerprint", "ffffffffffff"),
        ("about", "standard weights; images to 299 x 299 as pytorch"),
        ("shape", [64, 64, 3]),
        ("range", "floats"),
    ],
)
def test_statistics_of_something_else_are_refused(stored, name, other):
    """The distance would be a number without a meaning."""
    there = re.escape(f"{name} is {FACTS[name]!r} there and {other!r} here")
    with pytest.raises(ValueError, match=f"^reference=[^\n]*: {there}$"):
        reference.read(stored, "pool", 4, FACTS | {name: other})


def test_statistics_of_other_programs_are_known_by_their_shape_only(tmp_path):
    """A published file says neither extractor nor resolution: the result says so."""
    path = tmp_path / "published.npz"
    np.savez(path, mu=X.mean(0), sigma=np.cov(X.T))
    assert reference.read(path, "pool", 4, FACTS)[2]["protocol"] == "not stated"
    for kind, width, part in (
        ("pool", 5, "these features have 5"),
        ("spatial", 4, "no mu_s in it"),
    ):
        with pytest.raises(ValueError, match=part):
            reference.read(path, kind, width, FACTS)
    np.savez(path, mu=np.full(4, np.nan), sigma=np.cov(X.T))
    with pytest.raises(ValueError, match="mu and sigma are not finite"):
        reference.read(path, "pool", 4, FACTS)
    with pytest.raises(ValueError, match="no such file"):
        reference.read(tmp_path / "none.npz", "pool", 4, FACTS)
