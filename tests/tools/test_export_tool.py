"""The command that exports: its files are run and compared, what cannot work is refused."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from redrawn import redrawn

import diffjax
from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.export import standalone
from diffjax.tools import export

TINY = ("network={'name': 'dit', 'width': 16, 'depth': 2, 'heads': 2}", "sampling.steps=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of digits whose output depends on all its parameters."""
    experiment = builder.experiment(config.override(config.load("digits_vp"), TINY))
    redrawn(experiment).save(folder := tmp_path_factory.mktemp("export") / "run")
    return folder


@pytest.fixture
def tool(run, monkeypatch, capsys, tmp_path):
    """Run the command in this process; return its error or None, and its output."""

    def call(*flags, workdir=run):
        line = [f"--workdir={workdir}", f"--out={tmp_path / 'out'}", *flags]
        monkeypatch.setattr(sys, "argv", ["export", *line])
        try:
            assert export.run() == 0
        except ConfigError as error:
            return str(error), capsys.readouterr().out
        return None, capsys.readouterr().out

    return call


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--platforms=gpu"], "--platforms: 'gpu': unknown; known: cpu, cuda, tpu"),
        (["--format=onnx", "--what=sampler"], "allowed: network"),
        (["--format=onnx", "--quantize=w8"], "allowed: w8a8"),
        (["--format=onnx", "--platforms=cpu"], "does not apply to --format=onnx"),
        (["--format=safetensors", "--batch=2"], "does not apply to --format=safetensors"),
        (["--sampler=adaptive"], "an export needs the rows of a table"),
        (["--sampler=dmpp"], "unknown"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(tool, flags, reason, tmp_path):
    """A user would wait for a program to compile, and read a traceback."""
    error, _ = tool(*flags)
    assert error and reason in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named_with_the_commands_that_install_them(tool, monkeypatch):
    """A user would not know that jax2onnx belongs into an environment of its own."""
    there = importlib.util.find_spec
    gone = lambda name: None if name in ("jax2onnx", "flatbuffers") else there(name)
    monkeypatch.setattr(importlib.util, "find_spec", gone)
    assert "pip install --no-deps jax2onnx==" in tool("--format=onnx")[0]
    assert "pip install 'diffjax[export]'" in tool()[0]


def test_weights_are_those_of_the_run(tool, run, tmp_path):
    """An export of the weights would be another network."""
    error, out = tool("--format=safetensors")
    assert error is None and "equal to the bit" in out
    ours, theirs = (diffjax.load(p).denoise.params["network"] for p in (run, tmp_path / "out"))
    np.testing.assert_array_equal(ours["patches"]["kernel"], theirs["patches"]["kernel"])


def test_a_quantized_network_is_smaller_and_near_the_network(tool, run, tmp_path):
    """INT8 would be as large as floats, or its error would not be known."""
    error, out = tool("--what=network", "--quantize=w8", "--batch=2", "--platforms=cpu")
    assert error is None
    assert "x0: differs by" in out and "INT8 differs from floats by" in out
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["quantize"] == "w8" and about["inputs"]["x"]["shape"] == [2, 8, 8, 1]
    given = standalone.inputs(about, 2, 0, {"label": 3})
    theirs = standalone.load(tmp_path / "out")(**given)
    ours = diffjax.load(run).denoise(given["x"], given["t"], {"label": given["label"]})
    error = np.abs(np.asarray(theirs["eps"]) - ours.eps).max() / np.abs(ours.eps).max()
    assert 0 < error < 0.05
    from safetensors.numpy import load_file

    weights = load_file(tmp_path / "out" / "weights.safetensors")
    assert {a.dtype.name for a in weights.values()} == {"int8", "float32"}


def test_a_network_of_points_is_not_quantized(tool, toy):
    """Its export would be called INT8 and hold floats."""
    error, _ = tool("--quantize=w8", workdir=toy)
    assert "no layer on several tokens" in error
