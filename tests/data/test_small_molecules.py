"""Molecules: orders of bonds, the dictionary, files of your own, and lengths of samples."""

import sys

import numpy as np
import pytest

from diffjax.data import molecules
from diffjax.data.bonds import VALENCES, bonds, orders
from diffjax.data.conditions import likely
from diffjax.data.kinds.molecule_files import block, parsed
from diffjax.data.molecule import packed, unpacked
from diffjax.data.molecules import COLUMNS, chosen


def ring(count, radius, element):
    angle = 2 * np.pi * np.arange(count) / count
    x = radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    return x, [element] * count


def test_the_orders_of_known_molecules():
    """Carbon dioxide, nitrogen, hydrogen cyanide, formaldehyde and benzene by their structures."""
    line = lambda *places: np.array(places)[:, None] * np.array([[1.0, 0, 0]])
    known = {
        "OCO": (line(-1.16, 0, 1.16), [2, 2]),
        "NN": (line(0, 1.1), [3]),
        "HCN": (line(0, 1.07, 2.22), [1, 3]),
    }
    for names, (x, wanted) in known.items():
        elements = np.array([*names])
        order = orders(bonds(x, elements), elements)
        assert [order[i, i + 1] for i in range(len(x) - 1)] == wanted
        assert (order == order.T).all()
    x = np.array([[0, 0, 0], [1.2, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0]])
    elements = np.array([*"COHH"])
    assert orders(bonds(x, elements), elements)[0].tolist() == [0, 2, 1, 1]
    (inner, carbons), (outer, hydrogens) = ring(6, 1.39, "C"), ring(6, 2.48, "H")
    x, elements = np.concatenate([inner, outer]), np.array([*carbons, *hydrogens])
    order = orders(bonds(x, elements), elements)
    assert order.sum(1).tolist() == [VALENCES[e] for e in elements]
    assert sorted(order[0, 1:6][order[0, 1:6] > 0].tolist()) == [1, 2]


def columns(**changes):
    """The tables of one component, carbon monoxide with a hydrogen, with changed columns."""
    atoms = {"comp_id": ["A"] * 3, "atom_id": ["C", "O", "H"], "type_symbol": ["C", "O", "H"]}
    atoms |= {f"pdbx_model_Cartn_{a}_ideal": [0.0, 1.2, -1.0] for a in "xyz"}
    atoms |= {f"model_Cartn_{a}": [np.nan] * 3 for a in "xyz"}
    tables = {
        "chem_comp": dict(zip(COLUMNS["chem_comp"], (["A"], ["REL"], ["0"], ["N"]), strict=True)),
        "chem_comp_atom": atoms,
        "chem_comp_bond": {
            "comp_id": ["A", "A"],
            "atom_id_1": ["C", "C"],
            "atom_id_2": ["O", "H"],
            "value_order": ["DOUB", "SING"],
        },
    }
    for place, value in changes.items():
        table = next(t for t in tables.values() if place in t)
        table[place] = value
    return {k: {n: np.array(v) for n, v in t.items()} for k, t in tables.items()}


def test_components_are_read_with_their_bonds():
    (found,) = chosen(columns())
    assert found.name == "A" and found.elements.tolist() == ["C", "O", "H"]
    assert found.bonded.astype(int).tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(found.x[:, 0], [0.0, 1.2, -1.0])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("pdbx_release_status", ["OBS"]),
        ("pdbx_formal_charge", ["1"]),
        ("pdbx_ideal_coordinates_missing_flag", ["Y"]),
        ("type_symbol", ["C", "S", "H"]),
        ("type_symbol", ["C", "O", "N"]),
        ("type_symbol", ["C", "H", "H"]),
        ("atom_id_2", ["O", "H9"]),
        ("pdbx_model_Cartn_x_ideal", [0.0, np.nan, 1.0]),
    ],
)
def test_other_components_are_left_out(column, value):
    """Ions, metals, fragments without hydrogens and atoms without a place are no such molecules."""
    assert chosen(columns(**{column: value})) == []


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Thirty molecules of 3 to 6 atoms, one of another element, in an .sdf file."""
    rng, texts = np.random.default_rng(0), []
    for k in range(30):
        elements = np.array([*"CO", *"HNFH"[: 1 + k % 4]])
        texts.append(block(rng.integers(-1500, 1500, (len(elements), 3)) / 1000, elements, f"{k}"))
    texts.append(block(np.eye(3), np.array(["C", "O", "H"]), "S").replace("O  ", "Xe "))
    path = tmp_path_factory.mktemp("own") / "mine.sdf"
    path.write_text("".join(texts))
    return path


def same(one, other):
    """Whether two sets of points are equal but for their place."""
    moved = one - one.mean(0)
    return moved.shape == other.shape and np.abs(moved - other).max() < 1e-5


def test_a_file_of_your_own_is_read_centred_with_lengths(own):
    """Atoms would change their element or their place on the way from the file."""
    train, test = (molecules(s, str(own), atoms=5, holdout=0.3) for s in ("train", "test"))
    assert train.form.kind == "molecule" and len(train) + len(test) == 23
    length = train.cond["length"]
    assert train.form.lengths == tuple(np.bincount(length)) == test.form.lengths
    texts = own.read_text().split("$$$$\n")
    by_name = {text.splitlines()[0]: parsed(text) for text in texts[:30]}
    for item, n in zip(train.x, length, strict=True):
        x, elements = unpacked(item[:n])
        assert np.isnan(item[n:]).all() and np.abs(x.mean(0)).max() < 1e-6
        (match,) = [e for other, e in by_name.values() if same(other, x)]
        assert match.tolist() == elements.tolist()


def test_what_cannot_be_read_is_refused(own, tmp_path, monkeypatch):
    bad = tmp_path / "a.sdf"
    bad.write_text("no\nmolecule\n$$$$\n")
    table = tmp_path / "a.csv"
    table.write_text("x,y\n")
    cases = {
        "no such file": {"path": "missing.sdf"},
        "is no .sdf file": {"path": str(bad)},
        "has no molecule of these sizes": {"path": str(own), "heavy": 2, "atoms": 2},
        "heavy=1": {"path": str(own), "heavy": 1},
        "unknown ending; allowed: .sdf, .bcif": {"path": str(table)},
    }
    for message, settings in cases.items():
        with pytest.raises(ValueError, match=message):
            molecules("train", **settings)
    monkeypatch.setattr(sys.modules["diffjax.data.molecules"], "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs biotite: pip install "diffjax\[molecules\]"'):
        molecules("train")
    with pytest.raises(ValueError, match="element 'Xe': unknown; known: H, C, N, O, F"):
        packed([np.zeros((1, 3))], [["Xe"]], 1)
    with pytest.raises(ValueError, match="a molecule of 2 atoms: needs at most 1"):
        packed([np.zeros((2, 3))], [["C", "H"]], 1)


def test_likely_lengths_occur_as_often_as_they_were_counted():
    """Samples would have other sizes than the data, or sizes that training never saw."""
    counts = [0, 5, 0, 20, 75]
    drawn = likely(counts, 256)
    assert drawn.dtype == np.uint32
    np.testing.assert_allclose(np.bincount(drawn) / 256, np.array(counts) / 100, atol=1 / 256)
    assert not (np.diff(drawn.astype(int)) >= 0).all()
    np.testing.assert_array_equal(drawn, likely(counts, 256))
