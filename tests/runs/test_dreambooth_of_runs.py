"""DreamBooth from a network's own samples to its run, and what a prior of weight 0 does."""

import jax
import numpy as np
import pytest
from commands import TINY, ended
from PIL import Image

import diffjax
from diffjax.config import load, override
from diffjax.data import digits
from diffjax.io.trees import flat

SHORT = [t for t in TINY if not t.startswith("train.steps=")]
WHERE = "adapter.where=blocks"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Train a network of the digits 0 to 8, and write a folder of five nines."""
    folder = tmp_path_factory.mktemp("dreambooth")
    config = override(load("digits_vp"), [*SHORT, "train.steps=3", "data.only=(0,1,2,3,4,5,6,7,8)"])
    diffjax.fit(config, folder / "base")
    (folder / "nines").mkdir()
    for k, x in enumerate(digits("train", only=(9,)).x[:5]):
        Image.fromarray(x[..., 0]).save(folder / "nines" / f"{k}.png")
    return folder


def asked(place, out, *more):
    flags = f"--workdir={place / 'base'}", f"--out={out}", "--num=18", "--steps=2"
    return (*flags, "--label=0,1,2,3,4,5,6,7,8", "--batch-size=9", *more)


@pytest.mark.thorough
def test_the_prior_resumes_with_the_same_bytes(place, tmp_path, monkeypatch, capsys):
    """An interrupted command would draw other samples."""
    assert ended(monkeypatch, "tools.prior", *asked(place, tmp_path / "a")) == 0
    assert f"wrote 18 samples to {tmp_path / 'a'}" in capsys.readouterr().out
    whole = (tmp_path / "a/prior.npz").read_bytes()
    (tmp_path / "a/prior.npz").unlink()
    [*_, last] = sorted((tmp_path / "a/parts").glob("*.npz"))
    last.unlink()
    assert ended(monkeypatch, "tools.prior", *asked(place, tmp_path / "a")) == 0
    assert (tmp_path / "a/prior.npz").read_bytes() == whole
    assert ended(monkeypatch, "tools.prior", *asked(place, tmp_path / "a", "--seed=1")) == 2
    assert "holds samples of another network, sampler or seed" in capsys.readouterr().err


@pytest.fixture
def prior(place, monkeypatch):
    if not (place / "prior").exists():
        assert ended(monkeypatch, "tools.prior", *asked(place, place / "prior")) == 0
    return place / "prior"


def fit(place, workdir, *changes):
    given = [*SHORT, WHERE, f"data.path={place / 'nines'}", f"data.prior={place / 'prior'}"]
    config = override(load("digits_dreambooth"), [*given, "train.steps=3", *changes])
    return diffjax.fit(config, workdir, resume_from=place / "base")


def network(trained):
    return flat(jax.device_get(trained.denoise.params["network"]))


@pytest.mark.thorough
def test_a_prior_counts_by_its_weight(place, prior, tmp_path):
    """A prior of weight 0 would still pull, or another weight change nothing."""
    e = fit(place, tmp_path / "one").experiment
    batch = e.batch(e.batches()[0])
    assert set(batch) == {"x", "cond", "weight"} and set(batch["cond"]) == {"label"}
    assert ((batch["cond"]["label"] == 9) | (batch["weight"] == 1.0)).all()
    zero = network(fit(place, tmp_path / "zero", "data.weight=0.0"))
    stored = dict(np.load(prior / "prior.npz"))
    np.savez(prior / "prior.npz", **stored | {"x": 255 - stored["x"]})
    try:
        again = network(fit(place, tmp_path / "again", "data.weight=0.0"))
    finally:
        np.savez(prior / "prior.npz", **stored)
    one = network(diffjax.load(tmp_path / "one"))
    for path, value in zero.items():
        np.testing.assert_array_equal(again[path], value)
    assert any(np.abs(one[path] - value).max() > 1e-6 for path, value in zero.items())


@pytest.mark.thorough
def test_all_weights_are_trained_without_an_adapter(place, prior, tmp_path):
    """DreamBooth would need an adapter."""
    given = [*SHORT, f"data.path={place / 'nines'}", f"data.prior={prior}", "train.steps=3", WHERE]
    config = override(load("digits_dreambooth"), given)
    del config["adapter"]
    trained = diffjax.fit(config, tmp_path / "run", resume_from=place / "base")
    before = network(diffjax.load(place / "base"))
    moved = [path for path, v in network(trained).items() if np.abs(v - before[path]).max() > 0]
    assert len(moved) > len(before) / 2
