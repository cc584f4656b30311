"""Faults around a run, with real processes and signals; each gives one line for the user."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import builder, cli, config, train
from diffjax.config import ConfigError, RunError
from diffjax.devices import mesh
from diffjax.training import loop
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.feed import Feed
from diffjax.training.lock import lock
from diffjax.training.log import Log
from diffjax.training.signals import Signals
from diffjax.training.workdir import load_state, open_run, read_config

ENDLESS = 10**6
SMALL = {
    "network.width": 8,
    "network.depth": 1,
    "train.batch_size": 8,
    "train.samples": 4,
    "train.log_every": 10,
    "train.checkpoint_every": 10,
    "train.sample_every": ENDLESS,
    "train.steps": ENDLESS,
    "sampling.steps": 2,
}


def flags(workdir: Path, **changed) -> list[str]:
    """Return the flags of a small network on points; `__` in a name stands for a dot."""
    settings = SMALL | {k.replace("__", "."): v for k, v in changed.items()}
    given = [f"--config.{k}={v}" for k, v in settings.items()]
    return ["--config=moons_vp", f"--workdir={workdir}", *given]


class Running:
    """A training in a separate process, whose output is read as it arrives."""

    def __init__(
        self, workdir: Path, program: tuple[str, ...] = ("-m", "diffjax.train"), **changed
    ):
        line = [sys.executable, *program, *flags(workdir, **changed)]
        self.said = ""
        self.process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.said += line

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 200
        while not re.search(text, self.said):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, f"nothing came: {self.said}"
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.end()

    def end(self) -> int:
        code = self.process.wait(200)
        self._reader.join()
        self.process.stderr.close()
        return code


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run the command in this process; return its one line and its exit code."""

    def run(*given: str) -> tuple[str, int]:
        monkeypatch.setattr(sys, "argv", ["train", *given])
        with pytest.raises(SystemExit) as ended:
            cli.main(train.run)
        *_, line = capsys.readouterr().err.splitlines()
        return line, ended.value.code

    return run


def logged(workdir: Path) -> list[int]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def newest(workdir: Path):
    return load_state(builder.experiment(read_config(workdir)), workdir)


def test_a_full_disk_is_reported_and_survived_and_a_second_run_refused(tmp_path, refused):
    """A night's training would end for a log file, or two runs destroy each other.

    The disk is full for every file longer than 100 bytes: log, event file, state.
    """
    workdir = tmp_path / "run"
    with Running(workdir) as run:
        run.wait_for("train 20/")
        line, code = refused(*flags(workdir))
        assert code == 2
        assert line.startswith(
            f"error: --workdir={workdir}: another run is training there (process "
        )
        assert f"(process {run.process.pid} on " in line

        hard = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (100, hard))
        run.wait_for(r"checkpoint \d+ cannot be written \(.*\): training continues")
        run.wait_for(r"metrics for JSONL: cannot be written \(File too large\)")
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        at = int(re.findall(r"train (\d+)/", run.said)[-1])
        run.wait_for(rf"train {at + 30}/")
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 128 + signal.SIGTERM
    step = int(newest(workdir).step)
    assert run.said.splitlines()[-1].startswith(f"SIGTERM: saved at step {step}. To resume: ")
    assert logged(workdir) == [*range(10, step, 10), step]
    with lock(workdir):
        pass


@pytest.mark.thorough
def test_the_second_signal_ends_at_once(tmp_path):
    """A user who presses ctrl-C twice would still wait for a long step."""
    long = 3000  # steps of some milliseconds each
    ever = dict.fromkeys(
        ("log_every", "checkpoint_every", "sample_every", "steps", "steps_per_dispatch"), long
    )
    heavy = {"network__width": 512, "network__depth": 4, "train__batch_size": 32}
    workdir = tmp_path / "run"
    with Running(workdir, **heavy, **{f"train__{k}": v for k, v in ever.items()}) as run:
        run.wait_for("train step compiled")
        time.sleep(0.5)
        run.process.send_signal(signal.SIGINT)
        run.wait_for("SIGINT: saving after the running steps; a second signal exits at once")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 128 + signal.SIGINT
    assert not (workdir / "checkpoints" / str(long)).exists()


HANGS = """
import sys, threading
from pathlib import Path
from diffjax import cli, train
from diffjax.data.source import Memory

read, hang = Memory.__getitem__, Path(sys.argv.pop(1))

def hanging(self, index):
    if hang.exists():
        threading.Event().wait()
    return read(self, index)

Memory.__getitem__ = hanging
cli.main(train.run)
"""


@pytest.mark.thorough
def test_a_run_that_gets_no_data_saves_reports_and_exits(tmp_path):
    """A hung file server would block the machine until somebody looks."""
    workdir, hang = tmp_path / "run", tmp_path / "hang"
    with Running(workdir, ("-c", HANGS, str(hang)), data__timeout=1.0) as run:
        run.wait_for("train 20/")
        hang.touch()
        assert run.end() == 1
    step = int(newest(workdir).step)
    why = rf"batch {step} of config.data.name='moons' did not arrive within \d+\.\d s"
    told = rf"error: {why} \(config.data.timeout\); saved at step {step}"
    assert re.fullmatch(told, run.said.splitlines()[-1])


@pytest.mark.parametrize("stopped", [True, False], ids=["signal", "timeout"])
def test_a_run_without_data_saves_at_a_signal_and_at_its_limit(tmp_path, stopped):
    """The user would have to kill the run and lose its progress, or it would wait for ever."""
    small = ["network.width=8", "network.depth=1", "train.held_out_every=0"]
    experiment = builder.experiment(config.override(config.load("moons_vp"), small))
    layout, again = mesh.layout(jax.devices()[:1]), threading.Event()
    state = layout.put(experiment.initialise()._replace(step=jnp.asarray(7, jnp.int32)))
    never = (again.wait() for _ in range(2))
    with (
        Signals() as signals,
        closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints,
        closing(Log(tmp_path, 0, 8, experiment.writers)) as log,
        closing(Feed(never, 0.0 if stopped else 0.3)) as feed,
        ExitStack() as after,
    ):
        after.callback(again.set)  # in every case, because its thread waits
        batches = experiment.batches(layout.rows(8))
        callbacks = loop.Callbacks(experiment, tmp_path, layout, log, checkpoints, batches)
        if stopped:
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(RunError) as told:
            callbacks.take(feed, signals, 7, state)
        assert checkpoints.steps() == [7]
    why = r"batch 7 of config.data.name='moons' did not arrive within \d+\.\d s"
    why = f"SIGTERM: {why}" if stopped else rf"{why} \(config.data.timeout\)"
    assert re.fullmatch(rf"{why}; saved at step 7", str(told.value))
    assert told.value.stuck and told.value.code == (128 + signal.SIGTERM if stopped else 1)


class Stopping:
    """Checkpoints without files, in whose last save SIGTERM arrives."""

    def __init__(self, *_):
        self._steps = []

    def steps(self):
        return self._steps

    def restore(self, *_):
        return None

    def save(self, step, *_):
        self._steps.append(step)

    def wait(self):
        signal.raise_signal(signal.SIGTERM)

    def reserve(self, *_):
        pass

    close = lambda self: None


def test_a_signal_in_the_last_save_is_returned(tmp_path, monkeypatch):
    """A command that trains several runs would begin the next one after SIGTERM."""
    small = ["network.width=8", "network.depth=1", "train.held_out_every=0", "train.steps=1"]
    small += ["train.steps_per_dispatch=1", "train.writers=()"]
    experiment = builder.experiment(config.override(config.load("moons_vp"), small))
    layout = mesh.layout(jax.devices()[:1])
    shapes = jax.eval_shape(experiment.initialise)
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    step = lambda state, batch: (state._replace(step=state.step + 1), {"loss": np.ones(1)})
    stubs = {"Checkpoints": Stopping, "begin": lambda *_: zeros, "compile_steps": lambda *_: step}
    stubs |= dict.fromkeys(("report", "cost"), lambda *_: None)
    stubs["picture"] = lambda *_: np.zeros((2, 2, 3), np.uint8)
    for name, stub in stubs.items():
        monkeypatch.setattr(loop, name, stub)
    state, number = loop.train(experiment, tmp_path, layout)
    assert (int(state.step), number) == (1, signal.SIGTERM)


def test_a_run_of_bad_steps_stops_with_its_weights_and_its_batch(tmp_path, refused):
    """A diverged run would waste days, or lose its last good weights."""
    points, workdir = tmp_path / "points.npy", tmp_path / "run"
    np.save(points, np.full((40, 2), 1e30, np.float32))
    bad = {"data__name": f"array:{points}", "data__labels": False, "train__max_bad_steps": 20}
    line, code = refused(*flags(workdir, **bad, train__held_out_every=0))
    file = workdir / "bad_batch_00000000.npz"
    assert (line, code) == (
        "error: batches 0 to 19: loss or gradient is not finite, so 20 steps in a row were skipped "
        "(config.train.max_bad_steps=20); the weights are those of step 0, saved at step 20; "
        f"batch 0 is in {file}",
        1,
    )
    state = newest(workdir)
    assert (int(state.step), int(state.health.skipped)) == (20, 20)
    begun = jax.jit(builder.experiment(read_config(workdir)).initialise)()
    jax.tree.map(np.testing.assert_array_equal, state.params, begun.params)
    with np.load(file) as batch:
        np.testing.assert_array_equal(batch["x"], np.full((8, 2), 1e30, np.float32))
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["skipped"], "loss" in r) for r in rows] == [
        (10, 10, False),
        (20, 10, False),
    ]


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, refused):
    """The refusal would come after minutes of compiling."""
    folder = tmp_path / "read only"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # root may write everywhere but in what the kernel shows
        folder = Path("/sys/diffjax")
    line, code = refused(*flags(folder))
    assert code == 2
    assert line.startswith(f"error: --workdir={folder}: cannot be written (")


@pytest.mark.parametrize("change", ["item", "size", "same"])
def test_other_data_under_the_same_name_are_refused(tmp_path, change):
    """Half of the run would train on one data set and half on another."""
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    points, workdir = tmp_path / "points.npz", tmp_path / "run"
    settings = config.override(
        config.load("moons_vp"), [f"data.name=array:{points}", "data.labels=False"]
    )
    np.savez(points, x_train=x, x_test=x)
    with lock(workdir):
        open_run(workdir, builder.experiment(settings), [])
    changed = {"item": np.concatenate([x[:-1], x[:1]]), "size": x[:-1], "same": x}[change]
    np.savez(points, x_train=changed, x_test=x)
    if change == "same":
        open_run(workdir, builder.experiment(settings), [])
        return
    before = (workdir / "data.json").read_text()
    with pytest.raises(
        ConfigError, match=r"data.train.crc32 is '\w+' there and '\w+' here"
    ) as told:
        open_run(workdir, builder.experiment(settings), [])
    assert ("data.train.items is 40 there and 39 here" in str(told.value)) == (change == "size")
    assert (workdir / "data.json").read_text() == before


@pytest.mark.thorough
def test_a_new_run_begins_with_the_weights_of_another(toy, tmp_path, refused, monkeypatch):
    """More than the averaged weights would be taken over, or a resume start from them again."""
    workdir, other = tmp_path / "run", tmp_path / "other"
    fields = ["--config.train.steps=2", "--config.train.held_out_every=0"]
    mine = [f"--config={toy.parent / 'mine.py'}", *fields]
    given = [*mine, f"--workdir={workdir}", f"--resume_from={toy}"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["train", *given])
        assert train.run() == 0
    source = newest(toy)
    (workdir / "config.json").replace(workdir / "config.json.kept")
    before = json.loads((workdir / "config.json.kept").read_text())
    (workdir / "config.json").write_text(json.dumps(before))
    launches = [json.loads(s) for s in (workdir / "launches.jsonl").read_text().splitlines()]
    assert launches[0]["resume_from"] == {"path": str(toy), "step": 4, "ema": "constant"}
    assert "resume_from" not in launches[1] and launches[1]["step"] == 2

    experiment = builder.experiment(before)
    reader = Checkpoints(workdir / "checkpoints", write=False)
    assert reader.steps() == [0, 2]
    reader.close()
    state = newest(workdir)
    assert int(state.step) == 2
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), state.params, source.ema["constant"])
    assert 0 < max(jax.tree.leaves(moved)) < 0.1
    assert experiment.train.steps == 2

    line, code = refused(*given[:-1], f"--resume_from={workdir}")
    assert code == 2 and f"the run in {workdir} began with {toy}" in line
    line, code = refused(
        *mine, f"--workdir={other}", f"--resume_from={toy}", "--config.network.width=8"
    )
    assert code == 2
    assert line.startswith(f"error: --resume_from={toy}: not the parameters of config.network: ")
    assert "network/Dense_0/kernel" in line and not (other / "config.json").exists()
