"""The networks of the zoo: they load, draw, and are described by their files."""

import json
import shutil

import numpy as np
import pytest

import diffjax
from diffjax import cli, config, zoo
from diffjax.tools import zoo as command


@pytest.mark.parametrize(
    "name",
    [
        name
        if zoo.place(name).parent == zoo.HERE
        else pytest.param(name, marks=pytest.mark.thorough)
        for name in zoo.names()
    ],
)
def test_entries_load_and_draw(name):
    """A user's first line would fail."""
    trained = diffjax.load(name)
    assert {str(a.dtype) for a in _leaves(trained.denoise.params)} == {"float32"}
    facts = json.loads((zoo.place(name) / zoo.CARD).read_text())
    assert facts["parameters"] == sum(a.size for a in _leaves(trained.denoise.params))
    assert facts["steps"] == trained.step and facts["licence"] and facts["command"]
    form, x = trained.experiment.form, trained.sample(4, steps=1, batch_size=4).x
    assert x.shape == (4, *form.shape)
    x = x[~np.isnan(x)] if form.ends else x  # NaN beyond the end of each item
    assert np.isfinite(x).all() and len(x)
    assert x.std() > (10 if x.dtype == np.uint8 else 1e-3)


def _leaves(tree):
    import jax

    return jax.tree.leaves(tree)


def test_larger_entries_are_a_package_of_their_own(monkeypatch):
    """A user without it would not learn where an entry comes from."""
    assert "emoji" in zoo.names() and zoo.place("emoji").parent.name == zoo.MORE
    monkeypatch.setattr(zoo, "MORE", "diffjax_none")
    with pytest.raises(config.ConfigError, match=r"zoo:emoji: unknown.*pip install ./zoo"):
        zoo.place("emoji")
    inside = [zoo.place(name) / "weights.safetensors" for name in zoo.names()]
    assert max(path.stat().st_size for path in inside) < 5e6


def test_cards_are_written_from_the_files_of_an_entry():
    """A card would state numbers that nobody measured."""
    text = command.card(zoo.place("digits"))
    found = json.loads((zoo.place("digits") / zoo.WRITTEN).read_text())["results"]
    assert f"{found[0]['frechet']['ratio']:.4g}" in text and "702,753 parameters" in text
    assert "CC BY 4.0" in text and "--config=configs/digits_vp.py" in text
    assert "of 718 episodes of maze" in command.card(zoo.place("maze"))


def test_entries_are_small_and_name_no_place_of_their_making():
    """The package would grow, or show paths that exist on one machine."""
    sizes = [sum(f.stat().st_size for f in zoo.place(n).rglob("*")) for n in zoo.names()]
    assert max(sizes) < 25e6 and sum(sizes) < 100e6
    for name in zoo.names():
        found = config.load(str(zoo.place(name) / "config.json"))
        assert command.elsewhere(found) == found


def test_commands_work_on_a_copy(tmp_path, monkeypatch, capsys):
    """Samples and results would be written into the package."""
    monkeypatch.chdir(tmp_path)
    assert cli.path("zoo:digits") == zoo.COPIES / "digits"
    assert "copied to" in capsys.readouterr().err
    (zoo.COPIES / "digits" / "own.txt").touch()
    assert cli.path("zoo:digits") == zoo.COPIES / "digits"
    assert capsys.readouterr().err == "" and (zoo.COPIES / "digits" / "own.txt").exists()
    assert diffjax.load(zoo.COPIES / "digits").step == diffjax.load("digits").step
    with pytest.raises(config.ConfigError, match=r"zoo:digit: unknown .did you mean 'digits'"):
        diffjax.load("zoo:digit")
    shutil.copytree(zoo.place("digits_1step"), tmp_path / "digits")
    assert diffjax.load("digits").step == diffjax.load("digits_1step").step  # a path comes first


def test_an_entry_is_an_export_in_half_precision(tmp_path):
    """An entry would hold the raw parameters, or lose digits that a network needs."""
    command.add(zoo.place("digits_1step"), tmp_path / "entry", "digits", "CC BY 4.0", None)
    ours, theirs = (diffjax.load(p).denoise.params for p in (tmp_path / "entry", "digits_1step"))
    for a, b in zip(_leaves(ours), _leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
    facts = json.loads((tmp_path / "entry" / zoo.CARD).read_text())
    assert facts["images"] == 200 * 64 and (tmp_path / "entry" / zoo.PICTURE).exists()
