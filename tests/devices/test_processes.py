"""Two real processes with two devices each are one run: equal losses, one stop, one sample k."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from diffjax import builder, config, evaluate
from diffjax.config import ConfigError
from diffjax.devices import mesh, processes
from diffjax.generation.program import Generation
from diffjax.runs import trained
from diffjax.training import loop
from diffjax.training.workdir import open_run

FILE = Path(__file__).parents[1] / "moons.py"
ENV = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "2",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


class Two:
    """A command in two processes, connected by flags or by the variables of SLURM."""

    def __init__(self, folder: Path, command: str, *flags: str, slurm: bool = False):
        folder.mkdir(exist_ok=True)
        self.logs = [folder / f"{command}.{i}.txt" for i in (0, 1)]
        port, self.processes = free_port(), []
        for i, log in enumerate(self.logs):
            line = [sys.executable, "-m", f"diffjax.{command}", *flags]
            env = os.environ | ENV
            if slurm:
                env |= {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost"}
                env |= {"SLURM_NTASKS": "2", "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}
                env |= {"JAX_COORDINATOR_PORT": str(port)}
            else:
                line += [f"--coordinator=localhost:{port}", "--processes=2", f"--process_id={i}"]
            with log.open("w") as out:
                self.processes.append(subprocess.Popen(line, env=env, stdout=out, stderr=out))

    def wait(self) -> list[int]:
        """Wait for the processes and return their exit codes."""
        try:
            return [p.wait(240) for p in self.processes]
        finally:
            for p in self.processes:
                p.kill()

    def told(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)


def flags(workdir: Path, steps: int) -> list[str]:
    fields = {"steps": steps, "sharding": "fsdp:smallest=16"}
    given = [f"--config.train.{name}={value}" for name, value in fields.items()]
    return [f"--config={FILE}", f"--workdir={workdir}", *given]


def rows(workdir: Path, first: int, last: int) -> list[dict]:
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if first <= row["step"] <= last]


def assert_close(a: list[dict], b: list[dict]) -> None:
    """Assert equal metrics at equal steps, within 1e-5, except for times."""
    assert [r["step"] for r in a] == [r["step"] for r in b] and a
    for x, y in zip(a, b, strict=True):
        losses = {k for k in x if k.endswith(("loss", "grad_norm")) or k.startswith("held_out")}
        assert losses and losses <= set(y)
        np.testing.assert_allclose([x[k] for k in losses], [y[k] for k in losses], rtol=1e-5)


def alone(workdir: Path, steps: int) -> None:
    """Train in this process on one device, and return the whole state."""
    experiment = builder.experiment(
        config.override(config.load(str(FILE)), [f"train.steps={steps}"])
    )
    open_run(workdir, experiment, ["test"])
    loop.train(experiment, workdir, mesh.layout(jax.devices()[:1]))


def back_to(workdir: Path, copy: Path, step: int) -> Path:
    """Return a copy of the run in its state at `step`."""
    shutil.copytree(workdir, copy)
    for folder in (copy / "checkpoints").iterdir():
        if folder.name.isdecimal() and int(folder.name) > step:
            shutil.rmtree(folder)
    return copy


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    """Train 20 steps on one device."""
    workdir = tmp_path_factory.mktemp("single") / "run"
    alone(workdir, 20)
    return workdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Two, Path, list[int]]:
    """Stop one of two processes by SIGTERM after some 20 steps; return workdir and exit codes."""
    folder = tmp_path_factory.mktemp("two")
    workdir = folder / "run"
    two = Two(folder, "train", *flags(workdir, 10**5))
    log, end = workdir / "metrics.jsonl", time.monotonic() + 240
    while not (log.exists() and len(log.read_text().splitlines()) > 21):
        assert all(p.poll() is None for p in two.processes), two.told()
        assert time.monotonic() < end, two.told()
        time.sleep(0.05)
    two.processes[1].send_signal(signal.SIGTERM)
    return two, workdir, two.wait()


@pytest.mark.thorough
def test_two_processes_sample_as_one(single, tmp_path):
    """Sample k would depend on the machine, or each process would write a file of its own."""
    out = tmp_path / "x.npz"
    asked = f"--workdir={single}", "--num=6", f"--out={out}", "--batch-size=3"
    two = Two(tmp_path, "sample", *asked)
    assert two.wait() == [0, 0], two.told()
    found = trained.load(single)
    e = found.experiment
    made = Generation(found.denoise, e.plan(found.sde), 0, 6, e.shape, e.conditions(6))
    with np.load(out) as stored:
        np.testing.assert_allclose(stored["arr_0"], np.concatenate([*made]), atol=1e-4)


@pytest.mark.thorough
def test_two_processes_evaluate_as_one(single, tmp_path, monkeypatch):
    """Published numbers would depend on the machine, or keys of other hosts could not be sent."""
    asked = "--num=20", "--guidance=1", "--batch-size=8", "--metrics=frechet,bpd:steps=2,num=12"
    copies = [shutil.copytree(single, tmp_path / name) for name in ("one", "two")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", f"--workdir={copies[0]}", *asked])
    assert evaluate.run() == 0
    two = Two(tmp_path, "evaluate", f"--workdir={copies[1]}", *asked)
    assert two.wait() == [0, 0], two.told()
    one, both = (json.loads((w / "evaluation.json").read_text()) for w in copies)
    told = lambda made: (made["results"][0]["frechet"], made["network"]["bpd"])
    values = lambda made: [v for v in jax.tree.leaves(told(made)) if isinstance(v, float)]
    assert len(values(one)) > 5
    np.testing.assert_allclose(values(both), values(one), rtol=1e-4)
    assert "wrote" not in two.logs[1].read_text()


@pytest.mark.thorough
def test_two_processes_train_as_one_device_and_stop_together(single, stopped):
    """A run would depend on its machine, or SIGTERM to one host would leave the others waiting."""
    two, workdir, codes = stopped
    assert codes == [128 + signal.SIGTERM] * 2, two.told()
    assert_close(rows(workdir, 1, 20), rows(single, 1, 20))
    (stopped,) = re.findall(r"^SIGTERM: saved at step (\d+)\. To resume: ", two.told(), re.M)
    saved = [int(p.parent.name) for p in (workdir / "checkpoints").glob("*/commit_success.txt")]
    assert max(saved) == int(stopped) == rows(workdir, 0, 10**5)[-1]["step"] > 20
    # Only the first one prints messages.
    assert "train step compiled" in two.logs[0].read_text()
    assert "compiled" not in two.logs[1].read_text()
    assert not re.search(r"^train \d+/", two.logs[1].read_text(), re.M)


@pytest.mark.thorough
def test_one_process_resumes_a_run_of_two(stopped, tmp_path):
    """A checkpoint in parts on two hosts could be restored on two hosts only."""
    workdir = stopped[1]
    went_on = back_to(workdir, tmp_path / "back", 10)
    alone(went_on, 20)
    assert_close(rows(went_on, 11, 20), rows(workdir, 11, 20))


@pytest.mark.thorough
def test_two_processes_resume_a_run_of_one(single, tmp_path):
    """A checkpoint would be bound to the number of hosts."""
    workdir = back_to(single, tmp_path / "run", 10)
    more = flags(workdir, 20)
    two = Two(tmp_path, "train", *more, "--profile=12:14", slurm=True)
    assert two.wait() == [0, 0], two.told()
    assert_close(rows(workdir, 1, 20), rows(single, 1, 20))
    assert (workdir / "samples" / "step_00000020.png").exists()
    files = lambda folder: {p.name for p in (folder / "snapshots").iterdir()}
    assert files(workdir) == files(single)
    traces = {p.relative_to(workdir).parts[1] for p in workdir.rglob("profile/**/*.xplane.pb")}
    assert traces == {"process_0", "process_1"}
    assert json.loads((workdir / "cost.json").read_text())["devices"] == 4


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (("host:1", None, 0), "must be set together"),
        ((None, 2, None), "must be set together"),
        (("host:1", 2, 2), "--process_id=2: needs 0 <= process_id < 2"),
        (("host", 2, 0), "--coordinator=host: needs HOST:PORT"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(given, match):
    """A host would wait for others that never start."""
    with pytest.raises(ConfigError, match=match):
        processes.join(*given)


def test_one_process_stops_at_once():
    """A run on one machine would train one step too many before it stops."""
    agreed = processes.SharedSignal(mesh.layout(jax.devices()[:2]))
    assert agreed(None) is None
    assert agreed(signal.SIGINT) is signal.SIGINT
