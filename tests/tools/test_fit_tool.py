"""The command that compiles a config for devices that are not here, in this process."""

import json
import sys
from pathlib import Path

import jax
import pytest

from diffjax import builder, config
from diffjax.aot import programs, targets
from diffjax.aot.programs import TooLarge
from diffjax.config import ConfigError
from diffjax.tools import fit

TEXT = Path(__file__).parents[1] / "aot" / "compiled" / "cpu_4.txt"
TINY = ("--config.network.width=8", "--config.network.depth=1", "--config.train.batch_size=16")


def listed(experiment, target):
    """Stand for `train_step`: a compiled program from a file."""
    programs.layout(experiment, target)
    sizes = dict(state=100, batch=20, temporary=3000, output=4, code=0, seconds=1.0)
    work = dict(items=experiment.train.batch_size, steps=1, model_flops=10, flops=20)
    return programs.Compiled(**sizes, **work, text=TEXT.read_text())


@pytest.fixture
def real(monkeypatch, capsys):
    """Run the tool in this process, whose devices JAX has looked for already."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["fit", "--config=moons_vp", *TINY, *flags])
        assert fit.run() == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def tool(monkeypatch, real):
    """Run the tool without a compiler."""
    monkeypatch.setattr(programs, "train_step", listed)
    return real


def test_the_table_and_the_file_have_the_same_numbers(tool, tmp_path):
    """A user would compare two runs by numbers of different programs."""
    out = tool("--target=cpu:2", f"--out={tmp_path / 'fit.json'}", f"--hlo={tmp_path / 'hlo.txt'}")
    (found,) = json.loads((tmp_path / "fit.json").read_text())
    assert found["target"] == "cpu:2" and found["devices"] == 2 and found["items"] == 16
    assert found["sizes"]["peak"] == sum(v for k, v in found["sizes"].items() if k != "peak")
    assert found["sizes"] == dict(state=100, batch=20, temporary=3000, output=4, code=0, peak=3124)
    assert "train step, 16 points on all devices" in out and "all-reduce" in out
    assert "cpu:2: 2 devices" in out and "estimate     none" in out
    assert (tmp_path / "hlo.txt").read_text().startswith("HloModule")


@pytest.mark.thorough
def test_a_sweep_has_a_row_for_each_variant(real, tmp_path):
    out = real("--target=cpu:4", "--sweep=batch,sharding", f"--out={tmp_path / 'fit.json'}")
    rows = json.loads((tmp_path / "fit.json").read_text())
    assert [(r["batch"], r["sharding"]) for r in rows] == [
        (b, s) for b in (8, 16, 32, 64) for s in ("data", "fsdp")
    ]
    assert len(out.splitlines()) == 10


def test_the_largest_batch_is_searched_by_compiling(monkeypatch, capsys):
    """The search would end at a batch that the compiler refuses."""
    asked = targets.target("gpu:h100:1")
    batches = []

    def train_step(experiment, target):
        batches.append(n := experiment.train.batch_size)
        if n > 300:
            raise TooLarge("Ran out of memory")
        return listed(experiment, target)._replace(temporary=n * 10**8)

    monkeypatch.setattr(programs, "train_step", train_step)
    monkeypatch.setattr(targets, "_gpus", lambda target: jax.devices()[:1])
    chosen = config.override(config.load("moons_vp"), [f.removeprefix("--config.") for f in TINY])
    form = builder.experiment(chosen).form
    (best,) = fit.largest(chosen, form, asked)
    assert best["batch"] == 300 and 301 in batches
    assert "batch 301: --target=gpu:h100:1: does not fit: Ran out" in capsys.readouterr().out
    assert best["left"] == asked.memory - best["sizes"]["peak"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target=tpu:v5e:5x5"], "unknown topology '5x5'"),
        (
            ["--target=cpu:2", "--sweep=batch,width"],
            "--sweep=width: unknown; known: batch, ",
        ),
        (["--target=cpu:2", "--sweep=batch", "--sample"], "vary the train step"),
        (["--target=cpu:2", "--largest"], "the memory of cpu:2 is unknown"),
        (["--target=cpu:2", "--sweep=batch", "--hlo=x.txt"], "--hlo: is for one program"),
        (["--target=cpu:2", "--sweep=remat"], "--sweep=remat: mlp has no such setting"),
        (["--target=cpu:2", "--config.sde.name=vq"], "config.sde.name='vq'"),
        (["--target=cpu:3"], "batch_size=16: needs a multiple of 3"),
        (["--target=cpu:2", "--out=/no/such/place/fit.json"], "--out=/no/such/place/fit.json"),
    ],
)
def test_what_cannot_work_is_one_line(tool, flags, message):
    with pytest.raises(ConfigError) as error:
        tool(*flags)
    assert message in str(error.value) and "\n" not in str(error.value)
