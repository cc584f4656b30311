"""Conformers: graphs of molecules, both conformers of the dictionary, files, pictures, padding."""

import numpy as np
import pytest
from test_small_molecules import columns

from diffjax.data import KINDS, array, conformers
from diffjax.data.conformer import centred, features, joined, one_hot, orders_of, separate
from diffjax.data.conformers import in_crystal
from diffjax.data.kinds.conformer import solid
from diffjax.data.kinds.molecule_files import block, connected
from diffjax.data.molecules import chosen

X = np.array([[0, 0, 0], [1.2, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0.0]])
NAMES = np.array([*"COHH"])
ORDER = np.array([[0, 2, 1, 1], [2, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
GRAPH = {"elements": one_hot(NAMES, 6)[None], "bonds": features(ORDER, 6)[None]}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Thirty molecules with far atoms, whose bonds only the file states."""
    rng, texts = np.random.default_rng(0), []
    for k in range(30):
        names = np.array([*"CO", *"HNF"[: 1 + k % 3]])
        order = np.zeros((len(names),) * 2, int)
        order[0, 1:] = order[1:, 0] = 1 + k % 3
        texts.append(block(9 * rng.normal(size=(len(names), 3)), names, f"{k}", order))
    path = tmp_path_factory.mktemp("conformers") / "mine.sdf"
    path.write_text("".join(texts))
    return path


def test_features_are_orders_and_numbers_of_bonds_between():
    """A chain by hand: two and three bonds apart, and nothing beyond, nor in the padding."""
    chain = np.diag([1, 2, 3, 1], 1) + np.diag([1, 2, 3, 1], -1)
    found = features(chain, 6)
    assert found[0].argmax(1)[1:4].tolist() == [0, 3, 4] and not found[0, [0, 4, 5]].any()
    assert found.sum(2).max() == 1 and not found[5].any()
    np.testing.assert_array_equal(found, found.swapaxes(0, 1))
    np.testing.assert_array_equal(orders_of(found)[:5, :5], chain)
    ring = np.roll(np.eye(3, dtype=int), 1, 0)
    assert features(ring + ring.T, 3)[..., 3:].max() == 0  # neighbours are not two bonds apart


def test_an_item_and_its_graph_come_apart_again():
    item = centred(X, 6)
    x, elements, order = separate(joined(item[None], GRAPH)[0])
    np.testing.assert_allclose(x, X - X.mean(0), atol=1e-6)
    assert elements.tolist() == NAMES.tolist() and (order == ORDER).all()
    bare = separate(joined(item[None], {})[0])
    assert bare.elements.tolist() == ["X"] * 4 and not bare.order.any()


def test_files_have_the_given_bonds(own, tmp_path):
    """Bonds would be inferred by distance, which finds none where a network places atoms badly."""
    items = conformers("train", str(own), atoms=6, holdout=0.0)
    shown, files = joined(items.x, items.cond), KINDS["conformer"].whole()
    files[".sdf"].write(tmp_path / "a.sdf", shown, {}, {})
    texts = (tmp_path / "a.sdf").read_text().split("$$$$\n")[:-1]
    for text, row in zip(texts, shown, strict=True):
        np.testing.assert_array_equal(connected(text), separate(row).order)
    assert connected(texts[1])[0, 1] == 2 and len(solid(shown[1]).bonds) == 3
    read = files[".sdf"].read
    assert read
    np.testing.assert_allclose(read(tmp_path / "a.sdf", (6, 3), {}), items.x, atol=1e-4)


def test_pictures_show_elements_and_no_padding():
    kind, item = KINDS["conformer"], joined(centred(X, 6)[None], GRAPH)
    (picture,), (plain,) = kind.tiles(item), kind.tiles(item[..., :3])
    assert (picture != plain).any() and (plain < 250).any()
    (short,) = kind.tiles(joined(centred(X, 4)[None], {k: v[:, :4] for k, v in GRAPH.items()} | {
        "bonds": GRAPH["bonds"][:, :4, :4]
    }))  # fmt: skip
    np.testing.assert_array_equal(picture, short)


def test_the_form_states_kinds_that_values_do_not(own):
    """Elements would be read as tokens, and bonds as a map of an image."""
    form = conformers("test", str(own), atoms=6, holdout=0.3).form
    assert [(s.name, s.kind, s.size) for s in form.conditions] == [
        ("elements", "map", 5),
        ("bonds", "pairs", 5),
        ("length", "length", 6),
    ]
    absent = form.carried({}, 2)
    assert absent["bonds"].shape == (2, 6, 6, 5) and np.isnan(absent["bonds"]).all()


def test_files_of_arrays_have_features_of_pairs(tmp_path):
    """Graphs of your own would be read as images, or with another number of points."""
    x, rng = np.zeros((10, 4, 2)), np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", x=x, pairs=rng.normal(size=(10, 4, 4, 3)))
    items = array("train", str(tmp_path / "own.npz"), kind="cloud", holdout=0.0)
    assert [(s.name, s.kind, s.size) for s in items.form.conditions] == [("pairs", "pairs", 3)]
    for shape, message in {
        (10, 3, 3, 3): "has pairs .*, and the items have 4 points",
        (10, 4, 4): r"needs floats of shape \(N, L, L, size\)",
    }.items():
        np.savez(tmp_path / "bad.npz", x=x, pairs=np.zeros(shape))
        with pytest.raises(ValueError, match=message):
            array("train", str(tmp_path / "bad.npz"), kind="cloud", holdout=0.0)


def test_conformers_of_crystals_need_all_places_and_the_same_bonds():
    """A molecule with a missing atom, or with a broken bond, would be learned."""
    places = {"model_Cartn_x": [0.0, 1.2, -1.0], "model_Cartn_y": [5.0] * 3}
    (known,) = chosen(columns(**places, model_Cartn_z=[1.0] * 3))
    assert in_crystal(known) and known.crystal[1].tolist() == [1.2, 5.0, 1.0]
    (torn,) = chosen(columns(**places | {"model_Cartn_x": [0.0, 4.2, -1.0]}))
    (gone,) = chosen(columns(**places | {"model_Cartn_x": [0.0, np.nan, -1.0]}))
    assert not in_crystal(torn) and not in_crystal(gone)
    assert known.order.tolist() == [[0, 2, 1], [2, 0, 0], [1, 0, 0]]
