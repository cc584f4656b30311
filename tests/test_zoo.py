"""The networks of the zoo: they load, draw, and are described by their files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import diffjax
from diffjax import builder, cli, config, zoo
from diffjax.builder.codec import RULE
from diffjax.evaluation.reconstruction import reconstruct
from diffjax.features import DISTANCES
from diffjax.tools import codec as measuring
from diffjax.tools import zoo as command

CIFAR = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
CODECS = [name for name in zoo.names() if (zoo.place(name) / RULE).exists()]


@pytest.mark.parametrize(
    "name",
    [
        name
        if zoo.place(name).parent == zoo.HERE
        else pytest.param(name, marks=pytest.mark.thorough)
        for name in zoo.names()
        if name not in CODECS
    ],
)
def test_entries_load_and_draw(name):
    """A user's first line would fail."""
    trained = diffjax.load(name)
    assert {str(a.dtype) for a in _leaves(trained.denoise.params)} == {"float32"}
    facts = json.loads((zoo.place(name) / zoo.CARD).read_text())
    assert facts["parameters"] == sum(a.size for a in _leaves(trained.denoise.params))
    assert facts["steps"] == trained.step and facts["licence"] and facts["command"]
    form = trained.experiment.decoding.stored  # a codec that did not encode the data is refused
    texts = trained.experiment.form.texts  # the default prompts are those of data, not at hand
    given = {"prompt": "red apple, noto style"} if texts else {}
    if trained.config["data"].get("maps"):  # those of an item of the user's own
        noise = np.random.default_rng(0).normal(0, 0.1, (1, *form.shape))
        given = {"control": noise.astype(form.dtype)}
    x = trained.sample(4, steps=1, batch_size=4, **given).x
    assert x.shape == (4, *form.shape)
    x = x[~np.isnan(x)] if form.ends else x  # NaN beyond the end of each item
    assert np.isfinite(x).all() and len(x)
    assert x.std() > (10 if x.dtype == np.uint8 else 1e-3)


@pytest.mark.parametrize("name", CODECS)
def test_codecs_rebuild_their_images(name):
    """Weights or the rule of latents would not be those that were measured."""
    codec = builder.construct_codec(f"zoo:{name}", "--codec")
    assert f"zoo:{name}, step " in codec.about
    entry = zoo.place(name)
    measured = json.loads((entry / f"{zoo.REBUILT}.json").read_text())
    assert measured["fingerprint"] == codec.fingerprint
    if measured["data"]["name"] == "tfds:cifar10" and not (CIFAR / "cifar10").is_dir():
        pytest.skip(f"needs CIFAR-10, prepared in {CIFAR}")
    source, reading = builder.construct_data(measured["data"], "config.data")
    form = reading.form(source("test"))
    items = np.random.default_rng(0).choice(len(source("test")), 16, replace=False)
    x = source("test")[np.sort(items)]["x"]
    found = reconstruct(codec, form, x, DISTANCES["edges"](), 16).values
    assert found["psnr"] == pytest.approx(measured["psnr"], abs=3) and found["psnr"] > 20
    with pytest.raises(config.ConfigError, match="generates no samples"):
        diffjax.load(name).sample(1)


@pytest.mark.parametrize("name", zoo.names())
def test_cards_have_all_parts(name):
    """A user could not judge an entry, or would look for a picture that is not there."""
    entry = zoo.place(name)
    facts, text = json.loads((entry / zoo.CARD).read_text()), command.card(entry)
    assert all(facts[part] for part in ("about", "data", "licence", "command", "flops", "images"))
    use, data, network, training, picture = text.splitlines()[2:7]
    assert f"zoo:{name}`" in use and facts["licence"] in data and "parameters" in network
    assert facts["command"] in training and "TFLOP" in training
    assert Path(picture.removeprefix("- Samples: ")).is_file()
    assert any(character.isdigit() for character in "".join(command.quality(entry)))


def test_codecs_of_the_zoo_are_named(tmp_path, monkeypatch):
    """A typing error would end in a traceback, or another network would decode latents."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(config.ConfigError, match=r"--codec=zoo:digit: unknown .did you mean"):
        builder.construct_codec("zoo:digit", "--codec")
    with pytest.raises(config.ConfigError, match="--codec=zoo:digits: is a run of the network"):
        builder.construct_codec("zoo:digits", "--codec")


def test_codecs_of_the_zoo_are_measured_in_a_copy(tmp_path, monkeypatch):
    """A measurement would be written into the package."""
    monkeypatch.chdir(tmp_path)
    asked = measuring.flags().parse_args(["zoo:emoji_vae"])
    out = measuring.place(asked)
    assert out == zoo.COPIES / "emoji_vae" / zoo.REBUILT and (out.parent / RULE).is_file()
    assert not measuring.ended(out, ".json").exists()
    assert measuring.data_of(asked)["name"] == "emoji"


def test_networks_of_latents_bring_a_codec_that_all_have(tmp_path):
    """Samples of an entry would be latents, or its codec a path of the machine of its making."""
    with pytest.raises(config.ConfigError, match="its codec is runs/mine, which others lack"):
        command.add(zoo.place("emoji_latents"), tmp_path / "entry", "emoji", "", codec="runs/mine")
    assert not (tmp_path / "entry").exists()


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
    with pytest.raises(config.ConfigError, match=r"digit: no run here .*; did you mean zoo:digits"):
        diffjax.load("digit")
    shutil.copytree(zoo.place("digits_1step"), tmp_path / "digits")
    assert diffjax.load("digits").step == diffjax.load("digits_1step").step  # a path comes first


def test_an_entry_is_an_export_in_half_precision(tmp_path):
    """An entry would hold the raw parameters, or lose digits that a network needs."""
    command.add(zoo.place("digits_1step"), tmp_path / "entry", "digits", "CC BY 4.0")
    ours, theirs = (diffjax.load(p).denoise.params for p in (tmp_path / "entry", "digits_1step"))
    for a, b in zip(_leaves(ours), _leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
    facts = json.loads((tmp_path / "entry" / zoo.CARD).read_text())
    assert facts["images"] == 200 * 64 and (tmp_path / "entry" / zoo.PICTURE).exists()
