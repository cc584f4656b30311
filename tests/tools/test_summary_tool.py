"""The summary of a config's network on the screen."""

import sys

import jax
import pytest

from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.tools import summary


def shown(monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["summary", *flags])
    assert summary.run() == 0
    return capsys.readouterr().out


@pytest.mark.thorough
def test_the_published_size_is_shown_without_data_or_compiling(monkeypatch, capsys):
    """A user would have to start a run to learn that it does not fit."""
    out = shown(monkeypatch, capsys, "--config=cifar_vp", "--shape=32,32,3", "--depth=2")
    assert "unet: 35,746,307 parameters" in out
    assert "12.44 GFLOPs per image forward" in out and "a batch of 128" in out
    assert "Embedding_0/Dense_0" in out


def test_the_size_is_that_of_the_parameters(monkeypatch, capsys):
    """The printed size would not be that of the parameters."""
    changes = ["network.channels=8", "network.multipliers=(1,)", "network.attention=()"]
    e = builder.experiment(config.override(config.load("digits_vp"), changes))
    leaves = jax.tree.leaves(jax.eval_shape(e.initialise).params)
    flags = ["--config=digits_vp", "--depth=2", *(f"--config.{change}" for change in changes)]
    out = shown(monkeypatch, capsys, *flags)
    assert f"unet: {sum(a.size for a in leaves):,} parameters" in out
    assert "GFLOPs per image forward" in out and "a batch of 128" in out
    assert "Embedding_0/Dense_0" in out


@pytest.mark.thorough
def test_fields_of_the_config_can_be_changed(monkeypatch, capsys):
    flags = ("--config=moons_vp", "--config.network.width=8")
    small, large = (shown(monkeypatch, capsys, *f) for f in (flags, flags[:1]))
    assert small != large and "MLP" not in small and "Dense_0/" not in small


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=cifar_vp", "--shape=30,30,3"], "each divisible by 8"),
        (["--config=cifar_vp", "--shape=32,32,3", "--config.network.chanels=8"], "chanels"),
    ],
)
def test_what_cannot_be_built_is_one_line(monkeypatch, flags, message):
    monkeypatch.setattr(sys, "argv", ["summary", *flags])
    with pytest.raises(ConfigError) as error:
        summary.run()
    assert message in str(error.value) and "\n" not in str(error.value)
