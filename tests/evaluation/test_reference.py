"""Files of statistics: files of other programs can be read, and our files state their origin."""

import json
import re

import numpy as np
import pytest

from diffjax import builder
from diffjax.evaluation import reference
from diffjax.evaluation.beforehand import beforehand
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
    """Other programs could not read mu and sigma, or a result not name their file."""
    mean, covariance, told = reference.read(stored, "pool", 4, FACTS)
    np.testing.assert_allclose(mean, X.mean(0))
    np.testing.assert_allclose(covariance, np.cov(X.T))
    np.testing.assert_allclose(reference.read(stored, "spatial", 2, FACTS)[0], X.mean(0)[:2])
    assert told["protocol"] == FACTS and len(told["sha256"]) == 12
    with np.load(stored) as file:
        assert set(file.files) == {"mu", "sigma", "mu_s", "sigma_s", "protocol"}
        assert json.loads(str(file["protocol"])) == FACTS


def test_other_items_may_be_compared_with(stored):
    """Statistics of other items could not be used."""
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
    """The distance would have no meaning."""
    there = re.escape(f"{name} is {FACTS[name]!r} in the file and {other!r} here")
    with pytest.raises(ValueError, match=f"^reference=[^\n]*: {there}$"):
        reference.read(stored, "pool", 4, FACTS | {name: other})


def test_statistics_of_other_programs_are_known_by_their_shape_only(tmp_path):
    """A result would claim an extractor and a resolution that a published file does not state."""
    path = tmp_path / "published.npz"
    np.savez(path, mu=X.mean(0), sigma=np.cov(X.T))
    assert reference.read(path, "pool", 4, FACTS)[2]["protocol"] == "not stated"
    for kind, width, part in (
        ("pool", 5, "the features have 5"),
        ("spatial", 4, "lacks the array mu_s"),
    ):
        with pytest.raises(ValueError, match=part):
            reference.read(path, kind, width, FACTS)
    np.savez(path, mu=np.full(4, np.nan), sigma=np.cov(X.T))
    with pytest.raises(ValueError, match="mu and sigma are not finite"):
        reference.read(path, "pool", 4, FACTS)
    with pytest.raises(ValueError, match="no such file"):
        reference.read(tmp_path / "none.npz", "pool", 4, FACTS)


def skewed(covariance: np.ndarray) -> np.ndarray:
    covariance = covariance.copy()
    covariance[0, 1] += 0.1
    return covariance


COVARIANCE = np.cov(X.T)
BAD = {
    "negative": (X.mean(0), -np.eye(4), "is not a covariance: it has the eigenvalue -1 < 0"),
    "one negative": (X.mean(0), np.diag([1.0, 1, 1, -0.01]), "eigenvalue -0.01 < 0"),
    "skewed": (X.mean(0), skewed(COVARIANCE), "is not a covariance: it is asymmetric by up to 0.1"),
    "a row": (X.mean(0)[None], COVARIANCE, "(1, 4) and (4, 4); needs a mean (D,) and a covariance"),
    "variances": (X.mean(0), COVARIANCE[0], "(4,) and (4,); needs a mean (D,)"),
    "other width": (X.mean(0)[:3], COVARIANCE, "(3,) and (4, 4); needs"),
    "none": (np.zeros(0), np.zeros((0, 0)), "needs a mean (D,)"),
    "text": (np.full(4, "a"), COVARIANCE, "have the types <U1 and float64; needs floats"),
    "infinite": (X.mean(0), np.full((4, 4), np.inf), "are not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_mean_and_covariance_is_refused(tmp_path, name):
    """A distance from such a file would have no meaning."""
    mean, covariance, part = BAD[name]
    path = tmp_path / "a.npz"
    np.savez(path, mu=mean, sigma=covariance)
    with pytest.raises(ValueError, match=rf"^reference={re.escape(str(path))}: .*") as refused:
        reference.read(path, "pool", 4, FACTS)
    assert part in str(refused.value) and "\n" not in str(refused.value)


def test_rounding_is_no_reason_to_refuse_a_covariance(tmp_path):
    """Published covariances, in float32 or singular for few items, would be refused."""
    few = X[:3].astype(np.float32)
    path = tmp_path / "a.npz"
    np.savez(path, mu=few.mean(0), sigma=np.cov(few.T).astype(np.float32))
    assert reference.read(path, "pool", 4, FACTS)[1].shape == (4, 4)


def test_files_of_metrics_are_tried_before_anything_is_computed(tmp_path):
    """Damaged statistics would be noticed only after hours of sampling."""
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "file").touch()
    cases = {
        "fid:reference=none.npz": "reference=none.npz: no such file",
        f"sfid:reference={tmp_path / 'a.npz'}": "a.npz: cannot be read (",
        f"fid_infinity:reference={tmp_path / 'a.npz'}": "a.npz: cannot be read (",
        f"fid:write={tmp_path / 'file' / 'a.npz'}": "a.npz: cannot be written (",
        f"fid:write={tmp_path}": "cannot be written (Is a directory)",
        "clip_score:captions=none.txt": "captions=none.txt: cannot be read (No such file",
    }
    for text, part in cases.items():
        [metric] = builder.construct_metrics(text, "--metrics")[0].values()
        with pytest.raises(ValueError, match=re.escape(part)):
            beforehand(metric)
    beforehand(builder.construct_metrics("kid", "--metrics")[0]["kid"])
