"""Distance geometry: bonds between atoms, bounds, and coordinates that bounds determine."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffjax.data.conformer import Conformer
from experiments.molecules.conformers import turned
from experiments.molecules.embedding import by_rdkit, distances, embedded, hops, learned, names

CARBON = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]]) * 0.63
STAR = np.zeros((5, 5), int)
STAR[0, 1:] = STAR[1:, 0] = 1
METHANE = Conformer(CARBON, np.array([*"CHHHH"]), STAR)


def test_hops_are_the_shortest_ways():
    ring = np.roll(np.eye(6, dtype=int), 1, 0)
    assert hops(ring + ring.T)[0].tolist() == [0, 1, 2, 3, 2, 1]
    assert hops(STAR)[1].tolist() == [1, 0, 2, 2, 2]


def test_bounds_hold_the_distances_of_training():
    """By hand: methane has two distances, and other atoms or orders have bounds of their own."""
    bounds = learned([METHANE])
    assert len(bounds.lower) == 2
    for name, value in zip(names(METHANE)[0, 1:], distances(CARBON)[0, 1:], strict=True):
        assert bounds.lower[name] == pytest.approx(value) == bounds.upper[name]
    other = METHANE._replace(elements=np.array([*"CHHHF"]))
    assert len({*bounds.lower} | {*learned([other]).lower}) == 4


def test_tight_bounds_determine_a_molecule():
    """Descent would follow a wrong gradient, or the embedding start in fewer dimensions."""
    bounds = learned([METHANE])
    for seed in range(4):
        x = embedded(METHANE, bounds, np.random.default_rng(seed))
        np.testing.assert_allclose(distances(x), distances(CARBON), atol=1e-3)


def test_samples_are_turned_towards_what_they_are_shown_beside():
    """The picture would show a right conformer from another side, or its mirror image."""
    chain = np.array([[0, 0, 0], [1.4, 0, 0], [2.0, 1.3, 0], [3.3, 1.4, 0.4], [-0.5, 0.9, 0]])
    order = np.eye(5, k=1, dtype=int) * (np.arange(5) < 3)[:, None]
    order[0, 4] = 1
    m = Conformer(chain, np.array([*"CCOCH"]), order + order.T)
    for hand in (1.0, -1.0):
        x = hand * Rotation.random(rng=np.random.default_rng(0)).apply(chain) + 2.0
        np.testing.assert_allclose(turned(m._replace(x=x), m), chain, atol=1e-6)


def test_rdkit_places_the_same_atoms():
    pytest.importorskip("rdkit")
    x = by_rdkit(METHANE, 0)
    assert x is not None
    np.testing.assert_allclose(distances(x), distances(CARBON), atol=0.1)
