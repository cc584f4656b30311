"""Samples of a job are stored batch by batch, reproducible, and shared by all metrics."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import diffjax
from diffjax import cli, evaluate
from diffjax.generation import Job
from diffjax.generation import stored as storing
from diffjax.runs.trained import resampled

pytestmark = pytest.mark.typed

SAMPLING = {"sampler": {"name": "ddim"}, "steps": 3, "guidance": 1.0, "grid": {"name": "uniform"}}
FLAGS = ["--sampler=ddim", "--steps=10", "--ema=raw,constant", "--num=160", "--batch-size=8"]
FLAGS += ["--metrics=frechet"]


@pytest.fixture
def works(monkeypatch):
    """Run `evaluate` in this process; it must succeed."""

    def run(*flags) -> None:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(evaluate.run)
        assert ended.value.code == 0

    return run


def told(workdir: Path) -> list[dict]:
    """Return the results without their costs."""
    results = json.loads((workdir / "evaluation.json").read_text())["results"]
    for result in results:
        assert result["protocol"].pop("seconds") > 0
    return results


SLOW = """
import sys, time
from diffjax import cli, evaluate
from diffjax.generation import stored

write = stored.write_arrays

def slow(*args):
    time.sleep(0.2)
    write(*args)

stored.write_arrays = slow
cli.main(evaluate.run)
"""
"""The command, which does not end before it is killed."""


def stored(workdir: Path) -> list[Path]:
    return sorted((workdir / "evaluation").glob("ddim-*/*.npz"))


def killed(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a real process by kill -9 in its second job."""
    line = [sys.executable, "-c", SLOW, f"--workdir={workdir}", *FLAGS]
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}  # as here
    with subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL) as process:
        while len(stored(workdir)) < 22 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def interrupted(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the command in this process by an exception where it would write the next file."""
    write = storing.write_arrays

    def once(*args):
        if len(stored(workdir)) == 22:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(storing, "write_arrays", once)
        patch.setattr(sys, "argv", ["evaluate.py", f"--workdir={workdir}", *FLAGS])
        with pytest.raises(KeyboardInterrupt):
            evaluate.run()


@pytest.mark.parametrize("end", [interrupted, pytest.param(killed, marks=pytest.mark.thorough)])
def test_an_interrupted_evaluation_resumes_with_equal_results(
    toy, tmp_path, works, monkeypatch, end
):
    """Hours of work would be lost, or the numbers depend on the interruption."""
    fresh = shutil.ignore_patterns("evaluation*")  # other tests evaluate it too
    whole, part = (shutil.copytree(toy, tmp_path / n, ignore=fresh) for n in ("whole", "part"))
    end(part, monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in stored(part)}
    assert 22 <= len(before) < 40 and not (part / "evaluation.json").exists()
    works(f"--workdir={part}", *FLAGS)
    works(f"--workdir={whole}", *FLAGS)
    assert told(part) == told(whole)
    assert len(stored(part)) == 40
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not drawn again


@pytest.fixture(scope="module")
def sampled(toy) -> Job:
    trained = resampled(diffjax.load(toy), SAMPLING)
    about = SAMPLING | {"trained": 4, "ema": "constant"}
    e = trained.experiment
    return Job(trained.denoise, e.plan(trained.sde), e.form, e.config, about, batch_size=16)


def test_samples_are_taken_added_to_and_mended(sampled, tmp_path):
    """Another number of samples, or a damaged file, would change samples or redraw all."""
    files = lambda: {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    names = lambda *starts: [f"{start:08d}.npz" for start in starts]
    alone = sampled.samples(40)
    assert (alone.x.shape, alone.x.dtype, alone.label) == ((40, 2), np.float32, None)
    assert (alone.passes == 3).all() and (alone.seconds > 0).all()
    few = sampled.samples(24, tmp_path)
    before = files()
    assert sorted(before) == names(0, 16)
    wide = dataclasses.replace(sampled, batch_size=32).samples(40, tmp_path)  # sizes of their own
    assert files().items() > before.items() and sorted(files()) == names(0, 16, 24)
    for made in (few, wide):
        np.testing.assert_allclose(made.x, alone.x[: len(made.x)], atol=1e-5)
    again = sampled.samples(20, tmp_path)
    np.testing.assert_array_equal(again.x, few.x[:20])
    np.testing.assert_array_equal(again.seconds, few.seconds[:20])
    whole = (tmp_path / "00000016.npz").read_bytes()
    for damage in (b"", whole[:300], whole[:200] + bytes(40) + whole[240:]):
        (tmp_path / "00000016.npz").write_bytes(damage)
        np.testing.assert_array_equal(sampled.samples(40, tmp_path).x[:24], few.x)
    assert json.loads((tmp_path / "job.json").read_text())["steps"] == 3


def test_a_job_has_a_fingerprint_of_all_that_its_samples_depend_on(sampled):
    """Stored samples of another network, sampler or seed would be used."""
    twice = jax.tree.map(lambda a: 2 * a, sampled.denoise.params)
    others = [
        dataclasses.replace(sampled, seed=1),
        dataclasses.replace(sampled, cond={"label": np.array([1])}),
        dataclasses.replace(sampled, denoise=dataclasses.replace(sampled.denoise, params=twice)),
        dataclasses.replace(sampled, about={**sampled.about, "noise": "brownian"}),
    ]
    assert len({one.key for one in (sampled, *others)}) == 5
    assert dataclasses.replace(sampled, batch_size=3).key == sampled.key
    assert sampled.key.startswith("ddim-")
