"""A run on molecules: its samples have the sizes of training, and are written, shown and judged."""

import json

import numpy as np
import pytest
from commands import one_device
from test_kinds_of_data import CONFIG, ended

import diffjax
from diffjax.data import KINDS
from diffjax.data.kinds.molecule_files import block
from diffjax.data.molecule import unpacked

NETWORK = {"name": "egnn", "width": 8, "depth": 1, "radial": 4, "features": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run, whose data no longer exist."""
    folder, rng, texts = tmp_path_factory.mktemp("molecules"), np.random.default_rng(0), []
    for k in range(30):
        elements = np.array([*"CO", *"HNH"[: 1 + k % 3]])
        texts.append(block(rng.normal(size=(len(elements), 3)), elements, f"{k}"))
    data = folder / "mine.sdf"
    data.write_text("".join(texts))
    settings = {"name": f"molecules:{data}", "atoms": 6, "holdout": 0.3}
    with one_device():
        diffjax.fit(CONFIG | {"network": NETWORK, "data": settings}, folder / "run")
    return folder / "run", data


def test_samples_are_centred_molecules_of_the_sizes_of_training(run):
    """Samples would have as many atoms as the largest molecule, or need the data of the run."""
    folder, data = run
    text = data.read_text()
    data.unlink()
    try:
        with one_device():
            trained = diffjax.load(folder)
            chosen = trained.sample(20)
            three = trained.sample(2, cond={"length": 3})
    finally:
        data.write_text(text)
    counts = trained.experiment.form.lengths
    sizes = (~np.isnan(chosen.x[..., 0])).sum(1)
    assert {*sizes.tolist()} == {n for n, count in enumerate(counts) if count} == {3, 4, 5}
    assert (~np.isnan(three.x[..., 0])).sum(1).tolist() == [3, 3]
    for item, n in zip(chosen.x, sizes, strict=True):
        assert np.abs(item[:n, :3].mean(0)).max() < 1e-5


def test_commands_write_and_judge_molecules(run, tmp_path, monkeypatch, capsys):
    """A user would get no file that other programs open, or a metric of padding."""
    folder, data = run
    out = lambda *names: [f"--out={tmp_path / name}" for name in names]
    sample = lambda *flags: ended(monkeypatch, "sample", f"--workdir={folder}", *flags)
    with one_device():
        assert sample("--num=20", *out("a.sdf", "a.npz", "each")) == 0
        assert sample("--num=1", *out("a.html", "a.gif", "a.png")) == 0
        flags = [f"--workdir={folder}", "--num=20"]
        assert ended(monkeypatch, "evaluate", *flags, "--metrics=molecules:resamples=0") == 0
        assert ended(monkeypatch, "evaluate", *flags, "--metrics=frechet") == 2
    assert "--metrics=frechet: would include the padding of molecule" in capsys.readouterr().err
    (result,) = json.loads((folder / "evaluation.json").read_text())["results"]
    assert 0 <= result["molecules"]["whole"] <= 1 and result["molecules"]["floor_sizes"] >= 0
    judged = []
    for name in ("a.sdf", "each", "a.npz"):
        flags = [f"--samples={tmp_path / name}", f"--data=molecules:{data},atoms=6,holdout=0.3"]
        flags += ["--metrics=molecules:resamples=0"]
        assert ended(monkeypatch, "evaluate", *flags) == 0, capsys.readouterr().err
        file = tmp_path / f"{name.removesuffix('.npz')}.evaluation.json"
        judged.append(json.loads(file.read_text())["results"][0]["molecules"])
    for found in judged[1:]:  # by files of other programs, which hold fewer digits
        assert found == pytest.approx(judged[0], abs=1e-2)
    kind = KINDS["molecule"]
    with np.load(tmp_path / "a.npz") as file:
        x = file["arr_0"]
    sdf, xyz = kind.whole()[".sdf"].read, kind.files[0].read
    assert sdf and xyz
    back = sdf(tmp_path / "a.sdf", (6, 8), {})
    for k, (item, other) in enumerate(zip(x, back, strict=True)):
        n = int((~np.isnan(item[:, 0])).sum())
        single = xyz(tmp_path / "each" / f"{k:06d}.xyz", (6, 8), {})
        for read in (other[:n], single):
            assert unpacked(read)[1].tolist() == unpacked(item[:n])[1].tolist()
            np.testing.assert_allclose(read[:, :3], item[:n, :3], atol=1e-4)
