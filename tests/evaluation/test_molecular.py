"""Bonds by distance: known molecules, the order of atoms, and what cannot be right."""

import numpy as np
import pytest

from diffjax.data.bonds import bonds
from diffjax.evaluation import molecular as judge

METHANE = (
    np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.09 / 3**0.5,
    np.array(["C", "H", "H", "H", "H"]),
)
WATER = (
    np.array([[0, 0, 0], [0.9572, 0, 0], [-0.23999, 0.92663, 0]]),
    np.array(["O", "H", "H"]),
)


def test_known_molecules_have_their_bonds_and_angles():
    """A valid molecule would be counted as broken: 109.47 degrees and 1.09 angstrom in methane."""
    for (x, elements), angle, length in ((METHANE, 109.4712, 1.09), (WATER, 104.52, 0.9572)):
        bonded = bonds(x, elements)
        assert bonded[0].tolist() == [False] + [True] * (len(x) - 1) and not bonded[1:, 1:].any()
        assert judge.whole(bonded, elements) and judge.pieces(bonded) == 1
        np.testing.assert_allclose(judge.angles(x, bonded), angle, atol=0.01)
        np.testing.assert_allclose(judge.lengths(x, bonded), length, atol=1e-4)


def test_broken_molecules_are_not_whole():
    """Free atoms, two pieces, and a hydrogen with two neighbours would pass as molecules."""
    x, elements = WATER
    far = x + np.array([[0, 0, 0], [0, 0, 0], [0, 5.0, 0]])
    bonded = bonds(far, elements)
    assert judge.right(bonded, elements).tolist() == [True, True, False]
    assert judge.pieces(bonded) == 2 and not judge.whole(bonded, elements)
    twice = np.concatenate([x, x + 9.0])
    both = bonds(twice, np.tile(elements, 2))
    assert judge.right(both, np.tile(elements, 2)).all()
    assert not judge.whole(both, np.tile(elements, 2))
    near = bonds(0.4 * x, elements)  # the hydrogens touch
    assert judge.right(near, elements).tolist() == [True, False, False]
    with pytest.raises(KeyError, match="Xe"):
        bonds(x, np.array(["Xe", "H", "H"]))


def test_a_graph_is_known_in_any_order_and_from_isomers():
    """Novelty would count copies as new, or isomers as copies.

    The chain and the star of four carbons have the same elements and the same number of bonds.
    """
    carbons = np.array(["C"] * 4)
    chain, star = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    for i in range(3):
        chain[i, i + 1] = chain[i + 1, i] = star[0, i + 1] = star[i + 1, 0] = True
    assert judge.graph(chain, carbons) != judge.graph(star, carbons)
    order = np.array([2, 0, 3, 1])
    moved = judge.graph(chain[np.ix_(order, order)], carbons)
    assert moved == judge.graph(chain, carbons)
    one = np.array(["N", "C", "C", "C"])
    assert judge.graph(chain, one) != judge.graph(chain, carbons)
    assert judge.graph(chain, one) == judge.graph(chain[::-1, ::-1], one[::-1])
    assert judge.pieces(chain) == 1
