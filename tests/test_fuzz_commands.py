"""Bad flags of every command and tool: one line that names the flag, and no files left behind."""

import argparse
import functools
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ended, one_device
from PIL import Image

from diffjax import evaluation, plot, samplers
from diffjax import likelihood as densities
from diffjax.data import prepare
from diffjax.evaluation import likelihood
from diffjax.generation import job
from diffjax.runs import subject, trained
from diffjax.training import loop

pytestmark = pytest.mark.thorough

NONE = "no/such/place"
"""A path below a folder that is not there."""
TRAIN = ("train", "--config=moons_vp", "--workdir=new")
SAMPLE = ("sample", "--workdir=run", "--num=2", "--out=o.npz")
EVALUATE = ("evaluate", "--workdir=run", "--num=8")
SAMPLES = ("evaluate", "--samples=s.npz", "--data=digits", "--metrics=frechet")
EMPTY = [
    (*start, flag)
    for start, flags in (
        (TRAIN, ("--workdir=", "--config=", "--resume_from=")),
        (SAMPLE, ("--out=", "--previews=", "--trajectory=", "--ema=", "--sampler=", "--label=")),
        (EVALUATE, ("--metrics=", "--features=", "--data=", "--samples=")),
        (("tools.report", "--workdir=run"), ("--out=",)),
        (("tools.compare", "a", "b"), ("--out=", "--question=")),
        (("tools.convert", "run"), ("--out=", "--data=")),
    )
    for flag in flags
]
"""What the shell leaves of a variable that is not set."""
NUMBERS = [
    (*SAMPLE, "--num=99999999999999999999"),
    (*SAMPLE, "--steps=1e3"),
    (*SAMPLE, "--guidance=1e400"),
    (*SAMPLE, "--guidance=1e39"),
    (*SAMPLE, "--weight=nan"),
    (*SAMPLE, "--interval=nan,1"),
    (*SAMPLE, "--interval=1e-9,1e-8"),
    (*SAMPLE, "--interval=1"),
    (*SAMPLE, "--grid=karras:rho=nan"),
    (*SAMPLE, "--grid=explicit:times=(1,2)"),
    (*SAMPLE, "--corrector=langevin:snr=-1"),
    (*SAMPLE, "--reference=negative:label=99"),
    (*SAMPLE, "--cond=label=1.5"),
    (*EVALUATE, "--real=1"),
    (*EVALUATE, "--metrics=frechet:splits=0"),
    (*EVALUATE, "--metrics=kid:subsets=-1"),
    (*EVALUATE, "--metrics=cmmd:sigma=0"),
    (*EVALUATE, "--metrics=frechet:splits=99999999999999999999"),
    (*EVALUATE, "--metrics=bpd:probes=0"),
    ("tools.summary", "--config=moons_vp", "--shape=0,2"),
    ("tools.summary", "--config=moons_vp", "--shape=2", "--classes=-1"),
    ("tools.ema", "--workdir=run", "--std=nan"),
    ("tools.ema", "--workdir=run", "--std=0.0601"),
    ("tools.steps", "--workdir=run", "--error=inf"),
    ("tools.plot", "forward", "linear", "--times=nan"),
    ("tools.prepare", "images", "--out=mine", "--size=-1"),
    ("tools.grid", "--config=moons_vp", "--sampler=ddim", "--steps=2", "--num=1"),
    (*SAMPLE, "--out=below/a/folder.npz", "--label=9"),
]
PLACES = [
    (*TRAIN, "--resume_from=nowhere"),
    (*TRAIN, "--resume_from=text"),
    (*TRAIN, "--config=text"),
    (*TRAIN, "--workdir=text"),
    (*SAMPLE, "--out=folder"),  # a run on points
    (*SAMPLE, f"--out=text/{NONE}.npz"),
    (*SAMPLE, "--trajectory=text/a.png"),
    (*SAMPLE, "--workdir=text"),
    (*SAMPLE, "--workdir=broken"),
    (*SAMPLE, "--reference=network:workdir=nowhere"),
    (*EVALUATE, "--metrics=fid:reference=text"),
    (*EVALUATE, "--metrics=fid:write=images"),
    (*EVALUATE, "--features=inception:weights=text"),
    (*EVALUATE, "--metrics=inception_score", "--features=pixels"),
    (*EVALUATE, "--split=all"),
    (*SAMPLES, "--samples=images"),
    (*SAMPLES, "--samples=text"),
    ("evaluate", "--table", "text"),
    ("tools.convert", "text", "--out=new"),
    ("tools.convert", "run", "--out=text"),
    ("tools.compare", "text", "s.npz", "--out=new"),
    ("tools.compare", "s.npz", "s.npz", "--out=text"),
    ("tools.compare", "--out=new", "--results", "text"),
    ("tools.likelihood", "map", "--workdir=run"),
    ("tools.likelihood", "density", "--workdir=run", "--out=a.jpg"),
    ("tools.plot", "schedules", "linear", "--out=text/a.png"),
    ("tools.prepare", "text", "--out=mine"),
    ("tools.prepare", "images", "--out=text/mine"),
    ("tools.report", "--workdir=images"),
    ("tools.report", "--workdir=run", "--out=images"),
]


@pytest.fixture(scope="module", autouse=True)
def one(toy):
    with one_device():
        yield


@pytest.fixture
def folder(toy, tmp_path, monkeypatch) -> Path:
    """Return the current folder, with a run on points, samples, a text, a folder without images."""
    shutil.copytree(toy, tmp_path / "run")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "images").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"network": {}})[:-1])
    np.savez(tmp_path / "s.npz", arr_0=np.arange(8 * 64, dtype=np.uint8).reshape(8, 8, 8, 1))
    for k in range(20):
        path = tmp_path / "pictures" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 9 * k).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "begin", lambda *_: pytest.fail("a training began"))
    return tmp_path


def check(monkeypatch, capsys, folder, case):
    command, *flags = case
    last = {flag.partition("=")[0]: flag for flag in flags}
    once = [f for f in flags if last[f.partition("=")[0]] == f]  # the last of two counts
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    code = ended(monkeypatch, command, *once)
    said = capsys.readouterr().err.splitlines()
    assert code == 2, said
    errors = [line for line in said if "error: " in line]
    assert len(errors) == 1 and errors[0] == said[-1] and "Traceback" not in "".join(said)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("case", [*EMPTY, *NUMBERS, *PLACES], ids=" ".join)
def test_a_bad_flag_is_one_line_and_leaves_nothing(monkeypatch, capsys, folder, case):
    """A traceback, a nonsensical number, or files that block the corrected command."""
    check(monkeypatch, capsys, folder, case)


EDGES = (
    "0",
    "-1",
    "nan",
    "inf",
    "1e400",
    "",
    "2147483648",
    f"{2**64}",
    "images",
    f"{NONE}/x",
    "x:",
)
"""Values at the edges of what a flag takes: numbers, nothing, a folder, a place that is not."""
EACH = 3
"""Edges that each flag meets; with all of them, `len(EDGES)`, the test takes a minute."""
SWEPT = {
    "evaluate": ("--workdir=run", "--num=8", "--real=40", "--metrics=frechet:splits=1"),
    "sample": ("--workdir=run", "--num=2", "--out=o.npz"),
    "tools.steps": ("--workdir=run", "--num=2"),
    "tools.likelihood rank": ("--workdir=run", "--metric=bpd:num=2"),
    "tools.likelihood density": ("--workdir=run",),
    "tools.likelihood interpolate": ("--workdir=run",),
    "tools.ema": ("--workdir=run", "--std=0.1"),
    "tools.grid": ("--config=moons_vp", "--sampler=ddim", "--steps=3", "--num=50"),
    "tools.prepare": ("pictures", "--out=mine"),
    "tools.fetch": ("o/m", "--base=http://127.0.0.1:9"),
    "tools.plot sampler": ("ddim",),
}


class Began(Exception):
    """Raised where the work begins, which means that nothing was refused."""


def begins(*_, **__):
    raise Began


def flags_of(name: str, part: str) -> list[str]:
    parser = importlib.import_module(f"diffjax.{name}").flags()
    if part:
        (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parser = commands.choices[part]
    return [a.option_strings[0] for a in parser._actions if a.option_strings and a.nargs != 0]


def outcome(monkeypatch, capsys, command: str, *flags: str) -> str | None:
    """Return the fault in the exit of a command, "" for none, or None where its work began."""
    capsys.readouterr()
    try:
        code = ended(monkeypatch, command, *flags)
    except Began:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    if code in (0, None):
        return None
    return "" if len(errors) == 1 else f"{code}: {errors}"


@pytest.mark.parametrize("command", SWEPT)
def test_every_flag_at_its_edges_is_one_line_or_begins(monkeypatch, capsys, folder, command):
    """A traceback where a number wraps around, or a folder that stays empty."""
    name, _, part = command.partition(" ")
    loaded = functools.cache(trained.load)
    fresh = lambda path, sampling=None, ema=None, codec="", adapters=(): trained.resampled(
        loaded(path, None, ema), sampling or {}
    )
    for module in (trained, subject):
        monkeypatch.setattr(module, "load", fresh)
    for place, function in (
        *((job.Job, "samples"), (job.Job, "path"), (likelihood, "over"), (samplers, "refine")),
        *((samplers, "optimize"), (prepare, "scan"), (plot, "save"), (densities, "logp")),
        *((densities, "encode"), (evaluation, "Real")),
    ):
        monkeypatch.setattr(place, function, begins)
    faults, several = {}, len(EDGES)
    for number, flag in enumerate(flags_of(name, part)):
        for value in (EDGES[(number + k * several // EACH) % several] for k in range(EACH)):
            others = [f for f in SWEPT[command] if not f.startswith(f"{flag}=")]
            before, line = {*folder.rglob("*")}, f"{flag}={value}"
            fault = outcome(monkeypatch, capsys, name, *filter(None, [part]), *others, line)
            left = sorted({*folder.rglob("*")} - before, reverse=True)
            for path in left:
                path.rmdir() if path.is_dir() else path.unlink()
            if fault or (left and fault is not None):
                faults[line] = fault or f"left {left[-1]}"
    assert not faults
