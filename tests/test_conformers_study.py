"""Distance geometry: bonds between atoms, bounds, and coordinates that bounds determine."""

import numpy as np
import pytest

from diffjax.data.conformer import Conformer
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


def test_rdkit_places_the_same_atoms():
    pytest.importorskip("rdkit")
    x = by_rdkit(METHANE, 0)
    assert x is not None
    np.testing.assert_allclose(distances(x), distances(CARBON), atol=0.1)
