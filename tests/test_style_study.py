"""The study of a style from ten drawings, with a small network and few steps."""

import json

import jax
import numpy as np
import pytest
from commands import one_device

from diffjax import builder, config, data
from diffjax.training.workdir import Weights, write_weights
from experiments.adapters import style

SMALL = ("network.width=16", "network.depth=1", "network.heads=2", "network.patch=8")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    with one_device():
        monkeypatch.setattr(style, "PROMPTS", 3)
        monkeypatch.setattr(style, "STEPS", 2)
        monkeypatch.setattr(style, "SHOWN", 2)
        yield


@pytest.fixture
def base(tmp_path):
    """Write a network of the emoji with random weights."""
    e = builder.experiment(config.override(config.load("emoji_text"), SMALL))
    rng = np.random.default_rng(0)
    draw = lambda a: rng.normal(0, 0.1, a.shape).astype(a.dtype)
    params = jax.tree.map(draw, jax.eval_shape(e.initialise).params)
    write_weights(tmp_path / "base", e, Weights(6, params, "power"))
    return tmp_path / "base"


@pytest.mark.thorough
def test_a_word_leaves_the_old_styles_and_an_adapter_moves_them(base, tmp_path, monkeypatch):
    """The table would show what one of the ways does under the name of the other."""
    small = {"network": config.load(str(base / "config.json"))["network"]}
    batch = {"batch_size": 4, "steps_per_dispatch": 2}
    own = config.load("emoji_style")
    shrunk = {**own, **small, "train": own["train"] | batch}
    monkeypatch.setattr(style, "load", lambda name: shrunk)
    (tmp_path / "out").mkdir()
    style.study(base, tmp_path / "runs", tmp_path / "out", steps=2)
    report = json.loads((tmp_path / "out" / style.FILE).read_text())
    first, word, both = report["ways"].values()
    assert first["apart"] == word["apart"] == 0 and word["old"] == first["old"]
    assert both["apart"] > 0
    assert word["parameters"] == 16 < both["parameters"]
    assert report["real"] < 0.5 < first["old"]
    text = style.tables(tmp_path / "out")["adapters-style"]
    assert "| the word" in text and "| drawings of the style | 0." in text


def test_the_style_has_two_colours_and_ten_drawings():
    """The style would be learned from drawings of the prompts, or have other colours."""
    train, test = (data.emoji(split, drawn="duotone") for split in ("train", "test"))
    assert len(train) == 10 and len(train) + len(test) == 1590
    assert style.off_line(train.x) < 0.5 < 20 < style.off_line(data.emoji("train").x[:200])
    names = {train.captions([k])[0][0].rpartition(",")[0] for k in range(10)}
    assert not names & set(style.concepts())
    with pytest.raises(ValueError, match="drawn='ink': unknown; known: 'duotone'"):
        data.emoji("train", drawn="ink")
