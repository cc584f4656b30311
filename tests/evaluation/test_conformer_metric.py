"""The metric of conformers: copies, motions, symmetries, groups of one graph, and refusals."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffjax import builder, data
from diffjax.data.conformer import centred, features, one_hot
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.beforehand import Counts, beforehand, enough
from diffjax.evaluation.conformers import Apart, conformers, summary

MOST = 6
CHAIN = np.array([[0, 0, 0], [1.4, 0, 0], [2.0, 1.3, 0], [3.3, 1.4, 0.4], [-0.5, 0.9, 0]])
NAMES = np.array([*"CCOCH"])


def graph(names):
    """A chain of all atoms but the last, a hydrogen that is bonded to the first."""
    n = len(names)
    order = np.eye(n, k=1, dtype=int) * (np.arange(n) < n - 2)[:, None]
    order[0, n - 1] = 1
    return one_hot(names, MOST), features(order + order.T, MOST)


def bent(angle):
    """The chain with its end turned about the bond before it."""
    axis = CHAIN[2] - CHAIN[1]
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    return np.concatenate([CHAIN[:3], turn.apply(CHAIN[3:4] - CHAIN[2]) + CHAIN[2], CHAIN[4:]])


X = [CHAIN, bent(2.0), CHAIN[:3]]
GRAPHS = [graph(NAMES), graph(NAMES), graph(np.array([*"CNH"]))]


@pytest.fixture(scope="module")
def real():
    cond = {
        "elements": np.stack([elements for elements, _ in GRAPHS]),
        "bonds": np.stack([bonds for _, bonds in GRAPHS]),
        "length": np.array([5, 5, 3], np.uint32),
    }
    x = np.stack([centred(a, MOST) for a in X])
    return Real(
        lambda split: data.Memory(x, kind="conformer", cond=cond), data.Reading(), 9, Path()
    )


def judged(real, x, asked, **settings):
    items = np.stack([centred(a, MOST) for a in x])
    return conformers(real, Samples(items, None, np.array(asked)), resamples=0, **settings)


def test_copies_in_any_orientation_deviate_by_nothing(real):
    turned = [Rotation.random(rng=np.random.default_rng(k)).apply(a) + k for k, a in enumerate(X)]
    found = judged(real, turned, [0, 1, 2])
    assert found["coverage"] == found["precision"] == 1.0
    for name in ("median", "mirrored", "matching", "lengths", "angles"):
        assert found[name] == pytest.approx(0, abs=1e-4), name


def test_all_conformers_of_a_graph_are_references_but_one_is_asked_for(real):
    """The other conformer of a molecule would count as wrong, or as two that are covered."""
    found = judged(real, [X[1], X[1]], [0, 0])
    floor = found["floor_median"]
    assert found["median"] == pytest.approx(0, abs=1e-4) and found["precision"] == 1.0
    assert found["coverage"] == 0.5 and found["matching"] == pytest.approx(floor / 2, abs=1e-4)
    assert floor > 0.5 and found["floor_coverage"] == 0.0
    assert found["floor_lengths"] == pytest.approx(0, abs=1e-5)
    assert found["lengths"] == pytest.approx(0, abs=1e-5)
    assert judged(real, [X[1]], [0], threshold=2 * floor)["coverage"] == 1.0


def test_mirror_images_are_right_after_reflections_alone(real):
    mirror = X[1] * np.array([1.0, 1.0, -1.0])
    found = judged(real, [mirror], [1])
    assert found["median"] > 0.05 and found["mirrored"] == pytest.approx(0, abs=1e-4)


def test_lengths_and_angles_are_compared_bond_by_bond(real):
    """By hand: the bonds of a stretched molecule are longer by their lengths times the factor."""
    found = judged(real, [1.1 * X[0]], [0])
    pairs = [(0, 1), (1, 2), (2, 3), (0, 4)]
    lengths = [np.linalg.norm(CHAIN[i] - CHAIN[j]) for i, j in pairs]
    assert found["lengths"] == pytest.approx(0.1 * np.mean(lengths), rel=1e-4)
    assert found["angles"] == pytest.approx(0, abs=1e-3)


def test_graphs_count_alike_whatever_their_number_of_samples():
    near, far = np.full((9, 1), 0.1), np.full((1, 1), 0.9)
    groups = [
        Apart(np.arange(9), near, near, np.zeros(9), np.zeros(9)),
        Apart(np.array([9]), far, far, np.ones(1), np.ones(1)),
    ]
    found = summary(groups, np.ones(10, bool), 0.5)
    assert found["coverage"] == found["precision"] == 0.5 and found["matching"] == 0.5
    assert found["median"] == pytest.approx(0.1) and found["lengths"] == pytest.approx(0.1)
    assert summary(groups, np.arange(10) < 9, 0.5)["coverage"] == 1.0


def test_other_items_and_settings_are_refused(real):
    with pytest.raises(ValueError, match="needs conformers; the items are cloud"):
        enough(conformers, Counts(9, 9, 9, cases=9, kind="cloud"))
    with pytest.raises(ValueError, match="no conditions of held-out items"):
        enough(conformers, Counts(9, 9, 9, kind="conformer", ends=True))
    with pytest.raises(ValueError, match="not made for held-out conformers"):
        conformers(real, Samples(real.test.x, None))
    metrics, _ = builder.construct_metrics("conformers:threshold=0", "--metrics")
    with pytest.raises(ValueError, match="threshold=0"):
        beforehand(metrics["conformers"])
