"""Deviations of points after the best motion, by brute force, and symmetries of graphs."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffjax.evaluation.alignment import automorphisms, heavy, rmsd


@pytest.mark.parametrize("mirror", [False, True])
def test_the_deviation_is_the_least_over_rotations(mirror):
    """A grid of 24,000 rotations, and scipy's alignment, find no smaller one."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        a, b = rng.normal(size=(2, 4, 3))
        turns = Rotation.random(24_000, rng=rng).as_matrix()
        turns = np.concatenate([turns, -turns]) if mirror else turns
        centred = a - a.mean(0), b - b.mean(0)
        moved = centred[1] @ turns
        tried = np.sqrt(((centred[0] - moved) ** 2).sum((1, 2)) / 4).min()
        assert rmsd(a, b, mirror) <= tried + 1e-12 and tried < rmsd(a, b, mirror) + 0.02
        ways = [centred[1], -centred[1]] if mirror else [centred[1]]
        other = min(Rotation.align_vectors(centred[0], way)[1] / 2 for way in ways)
        np.testing.assert_allclose(rmsd(a, b, mirror), other, rtol=1e-9)


def test_the_deviation_ignores_motion_and_tells_mirror_images():
    """A conformer would count as wrong because of its place, or its mirror image as right."""
    a = np.random.default_rng(1).normal(size=(6, 3))
    turned = Rotation.random(3, rng=np.random.default_rng(0)).as_matrix() @ a.T
    moved = np.swapaxes(turned, 1, 2) + np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(rmsd(a, moved), 0, atol=1e-6)
    flipped = a * np.array([1.0, 1.0, -1.0])
    assert rmsd(a, flipped) > 0.1 and rmsd(a, flipped, mirror=True) < 1e-6
    flat = a * np.array([1.0, 1.0, 0.0])
    assert rmsd(flat, flat * np.array([-1.0, 1.0, 1.0])) < 1e-6
    np.testing.assert_allclose(rmsd(a, flipped), rmsd(flipped, a))
    pair = np.array([[0, 0, 0], [1.0, 0, 0]])
    np.testing.assert_allclose(rmsd(pair, 1.2 * pair), 0.1)  # by hand: both are off by 0.1


def test_symmetries_are_those_of_all_permutations():
    """A symmetry would be missing, and a right conformer would deviate."""
    rng = np.random.default_rng(2)
    for n in (3, 4, 5, 6):
        for _ in range(4):
            bonded = np.triu(rng.random((n, n)) < 0.5, 1)
            bonded, names = bonded | bonded.T, rng.choice([*"CO"], n)
            kept = [
                p
                for p in map(list, itertools.permutations(range(n)))
                if (bonded[np.ix_(p, p)] == bonded).all() and (names[p] == names).all()
            ]
            assert automorphisms(bonded, names.tolist()).tolist() == kept
    ring = np.roll(np.eye(6, dtype=bool), 1, 0)
    assert len(automorphisms(ring | ring.T, "C" * 6)) == 12
    assert len(automorphisms(np.zeros((4, 4), bool), "C" * 4, most=5)) == 5


def test_hydrogens_tell_atoms_apart_and_orders_do_not():
    """The oxygens of an acid differ, and those of a nitro group are alike."""
    acid = np.zeros((5, 5), bool)  # C, O, O, H on the second O, H on C
    acid[[0, 0, 2, 0], [1, 2, 3, 4]] = True
    rows, orders = heavy(np.array([*"COOHH"]), acid | acid.T)
    assert rows.tolist() == [0, 1, 2] and orders.tolist() == [[0, 1, 2]]
    nitro = acid.copy()
    nitro[2, 3] = False
    nitro[0, 3] = True
    assert heavy(np.array([*"NOOHH"]), nitro | nitro.T)[1].tolist() == [[0, 1, 2], [0, 2, 1]]
