"""The chain of progressive distillation, on tiny runs."""

import json
import logging
import re
import signal
import sys

import chex
import numpy as np
import pytest
from commands import one_device

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, Stopped
from diffjax.generation import Generated, Job
from diffjax.runs import distilling
from diffjax.runs.launch import launch
from diffjax.tools import distill
from diffjax.training.workdir import last_step, read_config, write_weights

SHORT = ("--train-steps=2", "--num=20", "--batch-size=20", "--config.train.log_every=1")
SHORT += ("--config.train.checkpoint_every=1", "--config.train.writers=()")


@pytest.fixture
def tool(monkeypatch, capsys, toy):
    """Run the tool in this process; return its output."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["distill", f"--workdir={toy}", *map(str, flags)])
        assert distill.run() == 0
        return capsys.readouterr().out

    return run


ONE = ("--from=2", "--to=1", *SHORT)


@pytest.fixture(scope="module", autouse=True)
def one():
    with one_device():
        yield


@pytest.fixture(scope="module", autouse=True)
def trained():
    """The calls of `launch`, in place of which a run is a copy of its teacher.

    Samples are random numbers, which need no compilation; the examples of the documents sample.
    """
    calls = []

    def copy(config, workdir, *, resume_from, command):
        calls.append((config, workdir, resume_from))
        teacher = distilling.load(resume_from)
        write_weights(workdir, builder.experiment(config), teacher.weights)

    def samples(job, num, folder):
        x = np.random.default_rng(0).normal(size=(num, 2)).astype(np.float32)
        seconds = np.zeros(num)
        return Generated(x, {}, np.full(num, job.plan.rows), seconds, job.form)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "samples", samples)
        patch.setattr(distilling, "launch", copy)
        patch.setattr(distilling, "last_step", lambda workdir: 2 * workdir.exists())
        yield calls


@pytest.fixture(scope="module")
def few(toy, trained, tmp_path_factory):
    """A chain of one run, from two steps to one."""
    folder = tmp_path_factory.mktemp("few") / "chain"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["distill", f"--workdir={toy}", f"--out={folder}", *ONE])
        assert distill.run() == 0
    return folder


def test_the_command_repeated_trains_nothing_again(few, tool, trained):
    """A finished chain would be trained again, or have another table."""
    table = (few / "distill.md").read_text()
    out = tool(f"--out={few}", *ONE)
    assert "run 1 of 1, 2 to 1 steps" in out and "is trained already" in out and table in out
    assert len(trained) == 1 and (few / "distill.png").exists()
    cells = [re.findall(r"[^|\s]+", line) for line in table.splitlines()[-2:]]
    assert [row[:2] for row in cells] == [["2", "-"], ["1", "1"]]
    assert cells[1][2] == cells[1][4], "all samples are the same here"
    results = json.loads((few / "distill.json").read_text())["results"]
    assert [row["protocol"]["passes"] for row in results] == [2, 1, 1]


def test_a_run_of_the_chain_is_a_run_that_begins_as_its_teacher(few, toy, trained):
    """The student would begin at random, or forget its teacher and its times."""
    ((config, workdir, teacher),) = trained
    assert (workdir, teacher) == (few / "steps_1", toy)
    stored = read_config(workdir)
    assert stored["loss"]["pair"] == {
        "name": "rows",
        "steps": 1,
        "times": pytest.approx([1.0, 0.001, 0.0]),
    }
    assert stored["loss"]["teacher"] == str(toy) and stored["train"]["steps"] == 2
    assert config["optimizer"]["schedule"] == {"name": "linear", "length": 2, "final": 0.0}


def test_a_distilled_run_knows_its_steps(few, caplog):
    """`sample` would take the steps of the first teacher, and other steps pass in silence."""
    job = diffjax.load(few / "steps_1").job()
    assert job.plan.rows == 1 and job.plan.start == 1.0 and not caplog.records
    with caplog.at_level(logging.WARNING):
        diffjax.load(few / "steps_1").job(steps=1, grid="uniform")
        assert not caplog.records
        diffjax.load(few / "steps_1").job(steps=2)
    assert "2 rows at times for which the network was not trained" in caplog.text
    assert "--steps=1" in caplog.text
    with pytest.raises(ConfigError, match="3 of them; needs k"):
        diffjax.load(few / "steps_1").job(steps=3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--from=6", "--to=2"), "--from=6, --to=2"),
        (("--from=2", "--to=2"), "needs from = 2"),
        pytest.param(*(("--guidance=2",), "unconditional"), marks=pytest.mark.thorough),
        pytest.param(*(("--grid=nope",), "--grid=nope"), marks=pytest.mark.thorough),
        (("--config.loss.diagonal=0.5",), "diagonal=0.5"),
        pytest.param(*(("--config.train.steps=0",), "steps=0: needs"), marks=pytest.mark.thorough),
        (("--features=nope",), "--features"),
    ],
)
def test_bad_values_are_refused_beforehand(flags, said, tool, tmp_path):
    """A chain would fail after hours, or leave a folder behind."""
    with pytest.raises(ConfigError, match=said):
        tool(f"--out={tmp_path / 'new'}", *flags)
    assert not (tmp_path / "new").exists()


def test_teachers_that_miss_or_set_something_are_refused(toy, tmp_path, monkeypatch):
    """A published network would be distilled for a default, or a weight be set twice."""
    teacher = diffjax.load(toy)
    short = distilling.replace(teacher, experiment=changed(teacher.experiment, train={}))
    guides = type("Guiding", (type(teacher.experiment.loss),), {"guides": (1.0, 4.0)})
    guided = distilling.replace(teacher.experiment, loss=guides())
    for trained, flags, said in (
        (short, {}, "--train-steps: needed"),
        (distilling.replace(teacher, experiment=guided), {"guidance": 2.0}, "--guidance=2: the"),
    ):
        monkeypatch.setattr(distilling, "load", lambda path, trained=trained: trained)
        with pytest.raises(ConfigError, match=said):
            distilling.chain(toy, tmp_path, 2, 1, **flags)


def changed(experiment, **sections):
    return distilling.replace(experiment, config={**experiment.config, **sections})


def test_a_folder_of_something_else_is_refused(few, tool, toy, tmp_path):
    """Runs with other settings would be mixed, or files be lost."""
    with pytest.raises(ConfigError, match="another --train-steps"):
        tool(f"--out={few}", *ONE, "--train-steps=3")
    with pytest.raises(ConfigError, match=f"--out={toy}"):
        tool(f"--out={toy}", *ONE)


def test_data_to_compare_with_create_their_folder_late(toy, tmp_path):
    """The tool asks for the data before it claims the folder, which has to be new or empty."""
    teacher, out = distilling.load(toy), tmp_path / "new"
    real = distilling.reference(teacher.config, teacher.experiment.form, None, out)
    assert not out.exists()
    assert real.folder == out / distilling.EVALUATION and real.folder.is_dir()


def test_a_chain_goes_from_run_to_run(toy, tmp_path):
    """A run would have the wrong teacher or steps, or guide what is guided already."""
    flags = [flag.removeprefix("--config.") for flag in SHORT[3:]]
    runs = distilling.chain(toy, tmp_path, 8, 2, train_steps=2, grid="quadratic", changes=flags)
    assert runs.counts == (4, 2) and len(runs.times) == 9 and runs.times[0] == 1.0
    last = runs.config(2)
    assert last["loss"]["teacher"] == str(tmp_path / "steps_4") and last["train"]["log_every"] == 1
    assert last["loss"]["pair"]["times"] == last["sampling"]["grid"]["times"] == runs.times
    whole = distilling.replace(runs, guidance=2.0)
    assert [whole.config(n)["loss"]["velocity"]["guidance"] for n in runs.counts] == [2.0, 1.0]
    one = distilling.sampled(runs.teacher, distilling.sampling(runs.times, 1))
    assert one.experiment.plan(one.sde).rows == 1


@pytest.mark.thorough
def test_a_chain_resumes_where_it_was_interrupted(tmp_path, monkeypatch, toy):
    """Ctrl-C would cost the runs trained so far, or change the result."""
    monkeypatch.setattr(distilling, "launch", launch)
    monkeypatch.setattr(distilling, "last_step", last_step)
    changes = [flag.removeprefix("--config.") for flag in SHORT[3:]]
    prepare = lambda out: distilling.chain(
        toy, tmp_path / out, 2, 1, train_steps=2, changes=changes
    )
    (whole := prepare("whole")).train(["test"])

    def stop(config, workdir, **more):
        half = {**config, "train": {**config["train"], "steps": 1}}
        raise Stopped(signal.SIGINT, launch(half, workdir, **more))

    parts = prepare("parts")
    monkeypatch.setattr(distilling, "launch", stop)
    with pytest.raises(Stopped):
        parts.train(["test"])
    assert last_step(parts.workdir(1)) == 1
    monkeypatch.setattr(distilling, "launch", launch)
    parts.train(["test"])
    of = lambda chain: diffjax.load(chain.workdir(1)).denoise.params
    chex.assert_trees_all_equal(of(whole), of(parts))
    first = json.loads((whole.workdir(1) / "launches.jsonl").read_text().splitlines()[0])
    assert first["resume_from"]["path"] == str(toy.resolve())
    with pytest.raises(ConfigError, match=r"--from=2: .* not trained"):
        distilling.chain(whole.workdir(1), tmp_path / "no", 2, 1)
    diffjax.load(toy).save(tmp_path / "export")
    assert distilling.chain(tmp_path / "export", tmp_path / "next", 2, 1).counts == (1,)
