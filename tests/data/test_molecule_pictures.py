"""Molecules as balls and sticks: colours, sizes, bonds, and the padding that is not drawn."""

import numpy as np

from diffjax.data.kinds.molecule import COLOURS, MOLECULE, solid
from diffjax.data.molecule import packed

X = np.array([[0, 0, 0], [1.2, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0.0]])
NAMES = [*"COHH"]
ITEM = packed([X], [NAMES], 6)


def test_atoms_become_balls_and_bonds_sticks():
    """A hydrogen would be as large as carbon, or a bond be missing."""
    found = solid(ITEM[0])
    np.testing.assert_allclose(found.positions, X - X.mean(0), atol=1e-6)
    assert [tuple(c) for c in found.colours.tolist()] == [COLOURS[name] for name in NAMES]
    assert found.bonds.tolist() == [[0, 1], [0, 2], [0, 3]]
    assert found.radii[0] > found.radii[1] > found.radii[2] == found.radii[3]


def test_a_picture_shows_each_element_and_no_padding():
    """The padding would be drawn as atoms, or a bond would hide the atoms that it joins."""
    (picture,) = MOLECULE.tiles(ITEM)
    (alone,) = MOLECULE.tiles(ITEM[:, :4])
    np.testing.assert_array_equal(picture, alone)
    scale, middle = 128 / (2 * 1.08 * 4.8), 64
    for place, name in zip(X - X.mean(0), NAMES, strict=True):
        pixel = picture[int(middle - scale * place[1]), int(middle + scale * place[0])]
        assert pixel.argmax() == np.argmax(COLOURS[name]) or name in "CH"
        assert (pixel != 144).any() and (pixel < 250).all()
