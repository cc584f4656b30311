"""A run on conformers: its samples have the graphs of held-out molecules, and their bonds."""

import json

import numpy as np
import pytest
from commands import one_device
from test_kinds_of_data import CONFIG, ended

import diffjax
from diffjax.data import conformers
from diffjax.data.conformer import joined, separate
from diffjax.data.kinds.molecule_files import block, connected, parsed

NETWORK = {"name": "egnn", "width": 8, "depth": 1, "radial": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run on molecules, each with two conformers."""
    folder, rng, texts = tmp_path_factory.mktemp("conformers"), np.random.default_rng(0), []
    for k in range(30):
        names = np.array([*"CO", *"HNH"[: 1 + k % 3]])
        order = np.zeros((len(names),) * 2, int)
        order[0, 1:] = order[1:, 0] = 1 + (k % 4 == 0)
        texts += [block(rng.normal(size=(len(names), 3)), names, f"{k}", order) for _ in "ab"]
    data = folder / "mine.sdf"
    data.write_text("".join(texts))
    settings = {"name": f"conformers:{data}", "atoms": 6, "holdout": 0.3}
    settings |= {"conditions": ["elements", "bonds"]}
    with one_device():
        diffjax.fit(CONFIG | {"network": NETWORK, "data": settings}, folder / "run")
    return folder / "run", data


def test_samples_have_the_graphs_of_held_out_molecules(run, tmp_path, monkeypatch):
    """Files would have bonds by distance, of which a poor network has none or too many."""
    folder, data = run
    with one_device():
        trained = diffjax.load(folder)
        chosen = trained.sample(8)
        others = conformers("train", str(data), atoms=6, holdout=0.3).cond
        own = trained.sample(8, cond={name: value[:8] for name, value in others.items()})
        out = [f"--out={tmp_path / name}" for name in ("a.sdf", "a.html", "a.png", "each")]
        assert ended(monkeypatch, "sample", f"--workdir={folder}", "--num=8", *out) == 0
    np.testing.assert_array_equal(own.cond["bonds"], others["bonds"][:8])
    assert (~np.isnan(own.x[..., 0])).sum(1).tolist() == others["length"][:8].tolist()
    held = trained.experiment.source("test")[np.arange(8)]
    texts = (tmp_path / "a.sdf").read_text().split("$$$$\n")[:-1]
    assert chosen.picture().shape[2] == 3 and len(texts) == 8
    graphs = joined(held["x"], {k: held[k] for k in ("elements", "bonds")})
    for item, x, text in zip(graphs, chosen.x, texts, strict=True):
        asked, (place, elements) = separate(item), parsed(text)
        assert elements.tolist() == asked.elements.tolist()
        np.testing.assert_array_equal(connected(text), asked.order)
        assert np.isnan(x[len(place) :]).all() and np.abs(place.mean(0)).max() < 1e-3
        np.testing.assert_allclose(place, 1.5 * x[: len(place)], atol=1e-3)


def test_a_command_judges_conformers_beside_their_floor(run, monkeypatch, capsys):
    with one_device():
        flags = [f"--workdir={run[0]}", "--num=20", "--guidance=1", "--metrics=conformers"]
        assert ended(monkeypatch, "evaluate", *flags) == 0, capsys.readouterr().err
    (result,) = json.loads((run[0] / "evaluation.json").read_text())["results"]
    found = result["conformers"]
    assert 0 <= found["coverage"] <= 1 and 0 < found["mirrored"] <= found["median"]
    assert found["floor_median"] > 0 and found["floor_lengths"] > 0
