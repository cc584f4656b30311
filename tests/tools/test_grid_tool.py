"""Grids optimized by command: for the data of a config, printed as a flag of sampling."""

import re
import sys

import numpy as np
import pytest

from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.data.form import labelled
from diffjax.tools import grid


def test_the_printed_flag_is_the_grid_that_was_made(monkeypatch, capsys):
    """A user would paste a grid that cannot be read, or that is no better."""
    flags = ["--config=digits_vp", "--sampler=dpmpp_2m", "--steps=5", "--most=5", "--num=200"]
    monkeypatch.setattr(sys, "argv", ["grid", *flags])
    assert grid.run() == 0
    said = capsys.readouterr().out
    before, after = (float(p) for p in re.findall(r"([\d.]+)%", said))
    assert after < before
    (text,) = re.findall(r"--grid=(explicit:\S+)'", said)
    sde = builder.construct_sde(config.load("digits_vp")["sde"], "config.sde")
    spec = {"sampler": {"name": "dpmpp_2m"}, "grid": config.parse(text), "steps": 5}
    assert len(builder.plan(spec, sde, labelled("points", (2,), 0)).table) == 5


def test_variances_are_those_of_the_data():
    source, reading = builder.construct_data({"name": "moons"}, "data")
    found = grid.variances(source("train"), reading, 500)
    index = np.linspace(0, len(source("train")) - 1, 500).astype(int)
    x = source("train")[index]["x"]
    np.testing.assert_allclose(found, np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1], rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=digits_vp", "--sampler=hein"], "--sampler.name='hein'"),
        (["--config=digits_vp", "--sampler=ddim", "--steps=1"], "at least three above 0"),
        (["--config=digits_vp", "--sampler=ddim", "--grid=karas"], "--grid.name='karas'"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, flags, message):
    monkeypatch.setattr(sys, "argv", ["grid", "--num=50", *flags])
    with pytest.raises(ConfigError) as error:
        grid.run()
    assert message in str(error.value) and "\n" not in str(error.value)
