"""Bad flags of every command and tool: one line that names the flag, and nothing left behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ended, one_device

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
    (*SAMPLE, "--out=folder"),  # of points
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
    """The current folder: a run on points, samples, a text, a folder without images."""
    shutil.copytree(toy, tmp_path / "run")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "images").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"network": {}})[:-1])
    np.savez(tmp_path / "s.npz", arr_0=np.arange(8 * 64, dtype=np.uint8).reshape(8, 8, 8, 1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "begin", lambda *_: pytest.fail("a training began"))
    return tmp_path


def check(monkeypatch, capsys, folder, case):
    command, *flags = case
    last = {flag.partition("=")[0]: flag for flag in flags}
    once = [f for f in flags if last[f.partition("=")[0]] == f]  # of two the last
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
    """A traceback, a number of nonsense, or a folder that the corrected command finds full."""
    check(monkeypatch, capsys, folder, case)
