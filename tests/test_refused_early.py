"""Impossible requests give one line before anything is sampled, trained or written."""

import dataclasses
import logging
import re

import numpy as np
import pytest
from commands import ended, one_device

import diffjax
from diffjax import builder, samplers
from diffjax.data.form import Form, labelled
from diffjax.evaluation.beforehand import Counts, enough
from diffjax.generation import Job
from diffjax.specs import Spec
from diffjax.training import stamps


@pytest.fixture(scope="module", autouse=True)
def one(toy):
    with one_device():
        yield


@pytest.fixture(scope="module")
def trained(toy):
    return diffjax.load(toy)


def refusal(function, *args, **kwargs) -> str:
    """Return the one line of an error that a user can correct."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        function(*args, **kwargs)
    line = str(error.value)
    assert line and "\n" not in line
    return line


FEW = Counts(samples=10, real=30, held_out=0, classes=10, asked=10)
NO_LABELS = Counts(samples=100, real=100, held_out=100)


@pytest.mark.parametrize(
    ("metric", "counts", "part"),
    [
        (
            "precision_recall:k=5",
            FEW,
            "k=5: there are 10 samples; needs at least 12, as intervals",
        ),
        ("precision_recall:k=5,resamples=0", FEW, ""),
        ("precision_recall:k=10,resamples=0", FEW, "k=10: there are 10 samples; needs at least 11"),
        ("precision_recall:k=30", FEW, "k=30: there are 30 training items; needs at least 31"),
        ("density_coverage:k=30", FEW, "k=30: there are 30 training items; needs at least 31"),
        ("density_coverage:k=29", FEW, ""),
        ("inception_score:splits=2", FEW, "splits=2: there are 10 samples; needs at least 20"),
        (
            "inception_score:splits=60",
            NO_LABELS,
            "splits=60: there are 100 samples; needs at least 120",
        ),
        ("fid_infinity", FEW, "there are 10 samples; needs at least 20"),
        ("fid_per_class", FEW, "there are 10 samples of 10 classes; needs at least 40"),
        ("fid_per_class", NO_LABELS, "the samples have no classes; allowed: fid"),
        ("classifier", NO_LABELS, "the samples have no classes"),
        ("clip_score", NO_LABELS, "captions: needs a text file with one line per class or sample"),
        ("clip_score", NO_LABELS._replace(cases=50), ""),
        ("retrieval", NO_LABELS, "no conditions of held-out items; needs a network with"),
        ("log_spectral", NO_LABELS, "no conditions of held-out items; needs a network with"),
        ("log_spectral", NO_LABELS._replace(cases=50), ""),
        (
            "log_spectral",
            NO_LABELS._replace(cases=50, kind="image"),
            "needs sounds; the items are image",
        ),
        ("columns", NO_LABELS._replace(kind="image"), "needs rows of a table; the items are image"),
        ("energies", NO_LABELS._replace(kind="points"), "needs particles of known energy"),
        ("clouds", NO_LABELS._replace(kind="image"), "needs clouds of points; the items are image"),
        ("completion", NO_LABELS, "no conditions of held-out items; needs a network with"),
        ("completion", NO_LABELS._replace(kind="image"), "needs clouds of points; the items are i"),
        ("clouds", FEW, "0 held-out items; needs 2 of each"),
        (
            "frechet",
            NO_LABELS._replace(gaps=True),
            "items are missing; allowed: the metrics",
        ),
        ("crps", NO_LABELS._replace(gaps=True, cases=50), ""),
        ("spectrum", NO_LABELS._replace(kind="image"), "needs fields; the items are image"),
        ("closest_record", FEW, "there are no held-out items"),
        ("downstream:target=a", NO_LABELS._replace(kind="table"), ""),
        ("memorization", FEW, "there are no held-out items"),
        ("crps", NO_LABELS, "no conditions of held-out items; needs a network with"),
        ("crps", NO_LABELS._replace(cases=51), "100 samples of 51 held-out items; needs at least"),
        ("crps", NO_LABELS._replace(cases=50), ""),
        ("memorization:cells=101", NO_LABELS, "cells=101: needs at most 100"),
        ("memorization:cells=100", NO_LABELS, ""),
        ("fid", FEW, ""),
    ],
)
def test_metrics_that_would_see_too_little_are_refused(metric, counts, part):
    """An hour of sampling would be lost for a line about the number of samples at its end."""
    [entry] = builder.construct_metrics(metric, "--metrics")[0].values()
    if not part:
        return enough(entry, counts)
    assert part in refusal(enough, entry, counts)


def test_captions_are_counted_beforehand(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    text = f"clip_score:captions={tmp_path / 'a.txt'}"
    [entry] = builder.construct_metrics(text, "--metrics")[0].values()
    assert "2 lines; needs 10, one per sample, or 10, one per class" in refusal(enough, entry, FEW)
    enough(entry, Counts(samples=2, real=9, held_out=9))


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--metrics=precision_recall:k=9", "--num=8"], "--metrics=precision_recall: k=9: there"),
        (["--metrics=precision_recall:k=9", "--real=5"], "there are 5 training items; needs"),
        (["--metrics=classifier"], "--metrics=classifier: the samples have no classes"),
        (["--metrics=builtins:object"], "--metrics=builtins:object: not a metric; needs"),
        (["--features=dinov3"], "--features.name='dinov3': unknown (did you mean "),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_an_evaluation_is_refused_before_it_samples(
    toy, tmp_path, monkeypatch, capsys, flags, part
):
    """An evaluation would sample before it is refused, or leave a folder behind."""
    monkeypatch.setattr(Job, "samples", lambda *_: pytest.fail("sampled"))
    before = sorted(toy.rglob("*"))
    capsys.readouterr()
    assert ended(monkeypatch, "evaluate", f"--workdir={toy}", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert sorted(toy.rglob("*")) == before


BIG = 2**31
COUNTS = {
    "num": lambda t: t.sample(BIG),
    "num of a path": lambda t: t.job().path(BIG),
    "batch_size": lambda t: t.sample(2, batch_size=BIG),
    "steps": lambda t: t.sample(2, steps=BIG),
    "index": lambda t: t.sample(2, index=BIG),
    "every": lambda t: t.sample(2, every=BIG, preview=print),
    "every of 0": lambda t: t.sample(2, every=0, preview=print),
    "strength": lambda t: t.sample(2, start=np.zeros(2), strength="0.5"),
    "a setting": lambda t: t.sample(2, sampler=f"ab_angle:order={BIG}"),
    "a seed": lambda t: t.sample(2, seed=2 * BIG),
    "a metric": lambda t: builder.construct_metrics(f"kid:subsets={BIG}", "--metrics"),
    "train.steps": lambda t: builder.experiment({**t.config, "train": {"steps": BIG}}),
    "train.batch_size": lambda t: builder.experiment({**t.config, "train": {"batch_size": BIG}}),
    "network.width": lambda t: builder.experiment({**t.config, "network": f"mlp:width={BIG}"}),
    "data.size": lambda t: builder.experiment({**t.config, "data": f"moons:size={BIG}"}),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_bounded(trained, name):
    """A number beyond 2^31 would wrap around where it becomes 32 bits, or exhaust memory."""
    line = refusal(COUNTS[name], trained)
    assert re.search(r"needs (an integer|a number|[\w<= ]*(< 2\*\*|>= 1))", line), line


NO_ENTRIES = {
    "sampler": {"sampler": object},
    "sampler by name": {"sampler": "builtins:object"},
    "sampler of another signature": {"sampler": "builtins:sorted"},
    "sampler that gives no table": {"sampler": "operator:is_"},
    "grid": {"grid": object},
    "grid that gives no times": {"grid": "diffjax.config:Applied"},
    "corrector": {"corrector": object},
    "rule": {"guidance": {"weight": 2.0, "rule": object}},
    "threshold": {"guidance": {"weight": 2.0, "threshold": object}},
    "reference": {"guidance": {"weight": 2.0, "reference": object}},
    "ramp": {"guidance": {"weight": 2.0, "ramp": object}},
}


@pytest.mark.parametrize("name", NO_ENTRIES)
def test_what_is_no_entry_of_its_noun_is_refused_with_its_place(trained, name):
    """A class of another kind would raise a traceback from deep inside."""
    line = refusal(trained.sample, 2, **NO_ENTRIES[name])
    assert line.startswith(f"config.sampling.{next(iter(NO_ENTRIES[name]))}")
    assert "method=<class 'object'>: needs an instance" in refusal(samplers.judge, object)


def test_an_error_within_a_users_entry_keeps_its_traceback(trained, monkeypatch):
    """The line number of a bug in a user's entry would be lost."""

    def broken(sde, times):
        return len(sde)

    monkeypatch.setattr(samplers, "broken", broken, raising=False)
    with pytest.raises(TypeError, match="has no len"):
        trained.sample(2, sampler="diffjax.samplers:broken")


def test_files_that_describe_a_run_are_known_by_their_sums(tmp_path, caplog):
    """A flipped digit in a config would silently give other samples."""
    stamps.write(tmp_path, {"config.json": "1.0\n", "data.json": "2\n"})
    assert stamps.changed(tmp_path) == ""
    (tmp_path / "config.json").write_text("1.1\n")
    assert f"{tmp_path}: config.json changed since it was written" in stamps.changed(tmp_path)
    (tmp_path / "config.json").unlink()  # other checks name a missing file
    assert stamps.changed(tmp_path) == ""
    (tmp_path / stamps.SUMS).write_bytes(b"\xff\xfe no text")
    assert stamps.changed(tmp_path) == ""
    (tmp_path / stamps.SUMS).unlink()
    assert stamps.changed(tmp_path) == ""


@pytest.mark.parametrize("written", [1, 2, 3, 4])
def test_files_that_a_kill_left_half_replaced_are_not_taken_for_changed(
    tmp_path, monkeypatch, written
):
    """A command would report a killed run as damaged."""
    stamps.write(tmp_path, {"a": "old\n", "b": "old\n"})
    count, write = 0, stamps.write_text

    def killed(path, text):
        nonlocal count
        if count == written:
            raise KeyboardInterrupt
        count += 1
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(stamps, "write_text", killed)
        if written < 4:
            with pytest.raises(KeyboardInterrupt):
                stamps.write(tmp_path, {"a": "new\n", "b": "new\n"})
        else:
            stamps.write(tmp_path, {"a": "new\n", "b": "new\n"})
    assert stamps.changed(tmp_path) == ""


def test_a_changed_config_is_reported_when_a_run_is_loaded(toy, tmp_path, caplog, trained):
    trained.save(tmp_path / "run")
    diffjax.load(tmp_path / "run")
    assert not caplog.records
    file = tmp_path / "run" / "config.json"
    file.write_text(file.read_text().replace('"t_max": 1.0', '"t_max": 0.9'))
    with caplog.at_level(logging.WARNING):
        assert diffjax.load(tmp_path / "run").sde.t_max == pytest.approx(0.9)
    (record,) = caplog.records
    assert record.message.partition(": ")[2].startswith("config.json changed since")
    (tmp_path / "run" / stamps.SUMS).unlink()
    caplog.clear()
    diffjax.load(tmp_path / "run")
    assert not caplog.records


def test_starts_without_steps_to_leave_out_leave_no_folder(toy, tmp_path, monkeypatch, capsys):
    """The corrected command would find its folder full."""
    np.savez(tmp_path / "s.npz", arr_0=np.zeros((3, 2), np.float32))
    start, out = f"--from={tmp_path / 's.npz'}", f"--out={tmp_path / 'new' / 'a.npz'}"
    flags = [f"--workdir={toy}", start, out, "--sampler=adaptive", f"--previews={tmp_path / 'p'}"]
    capsys.readouterr()
    assert ended(monkeypatch, "sample", *flags) == 2
    assert "--from: the sampler adaptive has no steps" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


@pytest.mark.parametrize(
    ("dropout", "weights", "label", "part"),
    [
        (0.0, (2.0,), [0, 1], "config.sampling.guidance: weight [2.0] needs predictions without"),
        (0.0, (1.0, 1.0), [0, 1], ""),
        (0.0, (), [0, -1], "--cond=label: some values are missing, but config.loss drops no"),
        (0.1, (2.0,), [-1], ""),
    ],
)
def test_samples_without_a_never_dropped_condition_are_reported(
    toy, trained, dropout, weights, label, part
):
    """Samples would be drawn without a label, for which no step has trained the network."""
    config = {**trained.config, "loss": {"condition_dropout": dropout}}
    experiment = builder.experiment(config, labelled("points", (2,), 2))
    line = builder.untrained(experiment, weights, {"label": np.array(label, np.int32)})
    assert part in line and bool(line) == bool(part)
    vector = np.array([[0.0, np.nan], [np.nan, np.nan]], np.float32)
    form = Form(kind="points", shape=(2,), conditions=(Spec("vector", "vector", 2),))
    other = dataclasses.replace(experiment, form=form)
    missing = builder.untrained(other, cond={"vector": vector})
    assert bool(missing) == (dropout == 0) and builder.untrained(other) == ""
    assert builder.untrained(other, cond={"vector": vector[:1]}) == ""
