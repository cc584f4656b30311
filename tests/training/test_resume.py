"""A run that is killed, stopped or started twice reaches bit-for-bit the uninterrupted result."""

import functools
import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from diffjax import builder, cli, train
from diffjax.config import load, override
from diffjax.devices import mesh
from diffjax.training import loop
from diffjax.training.lock import lock
from diffjax.training.log import SPEEDS
from diffjax.training.workdir import load_state, open_run

STEPS = 40
FILE = Path(__file__).parents[1] / "moons.py"
SETTINGS = {
    "data.workers": 1,
    "train.accumulate": 2,
    "train.steps_per_dispatch": 5,
    "train.steps": STEPS,
    "train.checkpoint_every": 5,
    "train.log_every": 5,
    "train.snapshot_every": 15,
    "train.sample_every": STEPS,
    "train.writers": "('tensorboard',)",
}


SLOW = """
import sys, time
from diffjax import cli, train
from diffjax.training.loop import Callbacks

look = Callbacks.look

def slow(self, *arguments):
    time.sleep(0.2)
    look(self, *arguments)

Callbacks.look = slow
cli.main(train.run)
"""
"""The command with slow steps: it does not end before it is stopped, and data are always there."""


def fields(changed: dict | None = None) -> list[str]:
    return [f"{k}={v}" for k, v in (SETTINGS | (changed or {})).items()]


def command(workdir: Path, changed: dict | None = None) -> list[str]:
    line = [sys.executable, "-m", "diffjax.train", f"--config={FILE}"]
    return [*line, f"--workdir={workdir}", *(f"--config.{field}" for field in fields(changed))]


def alone(workdir: Path, changed: dict | None = None) -> None:
    """Do the work of `finish` on the first device of this process."""
    experiment = builder.experiment(override(load(str(FILE)), fields(changed)))
    with lock(workdir):
        open_run(workdir, experiment, ["test"])
        loop.train(experiment, workdir, mesh.layout(jax.devices()[:1]))


def finish(workdir: Path, changed: dict | None = None) -> subprocess.CompletedProcess:
    line = command(workdir, changed)
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


class Running:
    """A training that continues until it is stopped; its stderr is a file."""

    def __init__(self, workdir: Path):
        self.log = workdir.parent / "stderr.txt"
        line = [sys.executable, "-c", SLOW, *command(workdir)[3:]]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=file)

    def wait_for(self, seen) -> None:
        end = time.monotonic() + 240
        while not seen():
            assert self.process.poll() is None, "ended before it could be stopped"
            assert time.monotonic() < end, "nothing came"
            time.sleep(0.005)

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        code = self.process.wait(240)
        return code, self.log.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return the workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    alone(workdir)
    return workdir


def rows(workdir: Path) -> list[dict]:
    """Return metrics.jsonl without speeds, the only values that may differ."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(s).items() if k not in SPEEDS} for s in lines]


def state(workdir: Path):
    experiment = builder.experiment(json.loads((workdir / "config.json").read_text()))
    return jax.tree.map(np.asarray, load_state(experiment, workdir))


@functools.cache
def final(whole: Path):
    return state(whole)


def assert_same(workdir: Path, whole: Path) -> None:
    """Assert that step, parameters, averages and optimizer are equal in all bits."""
    a, b = state(workdir), final(whole)
    assert int(a.step) == STEPS
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def files(workdir: Path) -> dict:
    """Return everything in the folder with its content."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(workdir.rglob("*"))}


def launched(workdir: Path) -> bool:
    """Return whether a launch is recorded; a kill before that leaves none to count."""
    file = workdir / "launches.jsonl"
    return file.exists() and file.read_text().endswith("\n")


def saved(workdir: Path, step: int | str) -> bool:
    return (workdir / "checkpoints" / str(step) / "commit_success.txt").exists()


def assert_like(workdir: Path, whole: Path, launches: int) -> None:
    """Assert equal states, rows and pictures, and equal bytes of the snapshots."""
    assert_same(workdir, whole)
    assert rows(workdir) == rows(whole)
    named = lambda folder: {p.name: data for p, data in files(folder / "snapshots").items()}
    assert named(workdir) == named(whole)
    assert sorted(named(whole)) == [f"step_{k:08d}.safetensors" for k in (15, 30, STEPS)]
    assert [r["step"] for r in rows(whole) if "loss" in r] == list(range(5, STEPS + 1, 5))
    measured = [r["step"] for r in rows(whole) if "held_out/loss" in r]
    assert measured == list(range(10, STEPS + 1, 10))
    noted = (workdir / "launches.jsonl").read_text().splitlines()
    assert len(noted) == launches
    begun = [json.loads(line)["step"] for line in noted]
    assert begun == sorted(begun) and begun[0] == 0 and begun[-1] >= 20
    picture = f"samples/step_{STEPS:08d}.png"
    assert (workdir / picture).read_bytes() == (whole / picture).read_bytes()


def assert_stopped(workdir: Path, number: signal.Signals, code: int, log: str) -> None:
    """Assert that the signal stopped the run, all is saved, and the last line resumes it."""
    assert code == 128 + number
    assert "Traceback" not in log
    last = log.splitlines()[-1]
    at = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if saved(workdir, p.name))
    assert 5 <= at < STEPS
    assert last.startswith(f"{number.name}: saved at step {at}. To resume: python -m diffjax.train")
    assert shlex.split(last.split("To resume: ")[1])[1:] == command(workdir)[1:]


def test_a_killed_run_ends_like_one_that_was_not(tmp_path, whole):
    """A run killed by kill -9 in a save would differ, also with other numbers of threads."""
    workdir = tmp_path / "run"
    run = Running(workdir)
    run.wait_for((workdir / "checkpoints" / "30").exists)
    assert run.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    alone(workdir, {"data.workers": 3})
    assert_like(workdir, whole, 2)


@pytest.mark.thorough
def test_a_run_that_is_killed_and_stopped_ends_like_one_that_was_not(tmp_path, whole):
    """After kill -9 in a save and SIGTERM later, the run would reach another state.

    A batch system sends SIGTERM and waits: all must be saved, and the command that resumes be
    printed. The last launch reads with another number of threads: the order of the data is the
    same.
    """
    workdir = tmp_path / "run"
    run = Running(workdir)
    run.wait_for((workdir / "checkpoints" / "10").exists)
    assert run.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    run = Running(workdir)
    run.wait_for(lambda: saved(workdir, 20))
    assert_stopped(workdir, signal.SIGTERM, *run.stop(signal.SIGTERM))
    alone(workdir, {"data.workers": 3})
    assert_like(workdir, whole, 3)


@pytest.mark.thorough
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path, whole):
    """Random kills in start-up and between saves would change the final state."""
    workdir, rng = tmp_path / "run", random.Random()
    moments = {
        "start-up": lambda run: launched(workdir),
        "between saves": lambda run: saved(workdir, 20),
    }
    for moment, seen in moments.items():
        run, pause = Running(workdir), rng.uniform(0, 0.1)
        run.wait_for(lambda: seen(run))  # noqa: B023
        time.sleep(pause)
        code, log = run.stop(signal.SIGKILL)
        assert code == -signal.SIGKILL, f"{moment} + {pause:.3f} s: {log}"
    done = finish(workdir, {"data.workers": 3})
    assert done.returncode == 0, done.stderr
    assert_like(workdir, whole, len(moments) + 1)


@pytest.mark.thorough
def test_ctrl_c_saves_too(tmp_path):
    """Ctrl-C would lose work."""
    workdir = tmp_path / "run"
    run = Running(workdir)
    run.wait_for(lambda: "train 5/" in run.log.read_text())
    assert_stopped(workdir, signal.SIGINT, *run.stop(signal.SIGINT))


def test_running_a_finished_run_again_changes_nothing(whole, monkeypatch, capsys):
    """A finished run would change, apart from the record of its launch."""
    before = files(whole)
    monkeypatch.setattr(sys, "argv", command(whole)[2:])
    monkeypatch.setattr(mesh, "layout", functools.partial(mesh.layout, jax.devices()[:1]))
    assert train.run() == 0
    after = files(whole)
    assert f"already at step {STEPS}; to train longer, set" in capsys.readouterr().out
    launches = whole / "launches.jsonl"
    assert after.pop(launches).startswith(before.pop(launches))
    assert after == before


def test_another_config_in_the_same_workdir_is_refused_with_the_differences(
    whole, monkeypatch, capsys
):
    """One half of a run would belong to another experiment."""
    before = files(whole)
    monkeypatch.setattr(mesh, "layout", functools.partial(mesh.layout, jax.devices()[:1]))
    other = {"optimizer.learning_rate": 0.5, "network.width": 8, "train.sample_every": 5}
    monkeypatch.setattr(sys, "argv", command(whole, other)[2:])
    with pytest.raises(SystemExit) as ended:
        cli.main(train.run)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --workdir={whole} holds a run of another config: ")
    rate = load(str(FILE))["optimizer"]["learning_rate"]
    assert f"config.optimizer.learning_rate is {rate} there and 0.5 here" in line
    assert "config.network.width is 16 there and 8 here" in line
    assert "sample_every" not in line
    assert files(whole) == before
