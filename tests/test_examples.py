"""The commands in the documents, typed in one folder, each reduced and run."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import ended, one_device
from documents import blocks, command, expanded, having, lines, prepare, text, tiny

from diffjax import cli, config, train
from diffjax.features import judge
from diffjax.tools import likelihood

FEW = {
    "sample": ["--num=4"],
    "evaluate": ["--num=20", "--real=100"],
    "tools.codec": ["--num=20", "--real=100"],
    "tools.compare": ["--num=4"],
    "tools.ema": ["--std=0.1"],
    "tools.prepare": ["--size=8"],
    "tools.steps": ["--num=2", "--steps=3", "--most=6", "--error=1000"],
    "tools.grid": ["--num=64", "--most=2"],
    "tools.restore": ["--num=2", "--steps=3"],
    "tools.edit": ["--steps=3"],
    "tools.distill": ["--from=2", "--to=1", "--train-steps=3", "--num=8"],
    "tools.pairs": ["--num=20", "--steps=2"],
    "tools.prior": ["--num=20", "--steps=2"],
}


@pytest.fixture(autouse=True, scope="module")
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    prepare(world := tmp_path_factory.mktemp("world"))
    return world


@pytest.fixture
def world(prepared, monkeypatch) -> Path:
    """The folder in which all examples are typed."""
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("HOME", str(prepared / "home"))
    monkeypatch.setattr(likelihood, "POINTS", 6)
    monkeypatch.setattr(judge, "BATCH", 8)
    monkeypatch.setattr(judge, "classifier", functools.partial(judge.classifier, width=8))
    return prepared


def reduced(name: str, flags: list[str]) -> list[str]:
    """Return a short version of the same command."""
    given = cli.read(importlib.import_module(f"diffjax.{name}").flags(), flags)
    more = [*FEW.get(name, ())]
    if name in ("train", "tools.fit"):
        own = tiny(given.config, *given.overrides)
        own += [f"train.{k}=3" for k in ("held_out_every", "snapshot_every") if k in str(flags)]
        own += ["data.size=8"] if "data.size" in str(flags) else []
        more = [f"--config.{assignment}" for assignment in own]
        more += ["--target=cpu:1"] if name == "tools.fit" else []
    elif name == "tools.export":
        samples = given.format == "stablehlo" and given.what != "network"
        more = ["--steps=2"] if samples else []
    elif getattr(given, "quality", None):
        more += ["--quality=1e6"]
    elif name in ("sample", "evaluate") and not listed(given):
        more += [f"--steps={max(3, getattr(given, 'every', None) or 0)}"]
    elif name == "tools.watermark":  # samples of an untrained network lose their marks
        more = ["--steps=3", "--rate=0.9999"] if given.command == "detect" else []
    elif name == "tools.likelihood":
        more = ["--num=2"] + (["--steps=2"] if given.command != "rank" else [])
    for flag in ("metrics", "metric"):
        if re.search("bpd|vlb|success", getattr(given, flag, None) or ""):
            more += [f"--{flag}={quick(getattr(given, flag))}"]
    return flags + more


def listed(given: argparse.Namespace) -> bool:
    """Return whether the times are listed, so that they allow few numbers of steps."""
    config = (given.workdir or Path()) / "config.json"
    return "explicit" in str(given.grid) or (config.is_file() and '"nested"' in config.read_text())


def quick(metrics: str) -> str:
    """Return quick settings of a metric: few images, steps or noise levels."""
    few = {"bpd": "num=4,steps=2", "vlb": "num=4,samples=2", "success": "num=4"}
    parts = [(entry, few.get(entry.partition(":")[0])) for entry in config.entries(metrics)]
    return ",".join(f"{e}{',' if ':' in e else ':'}{add}" if add else e for e, add in parts)


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Lines that were run already: documents repeat some of them."""
    return set()


@pytest.fixture
def type_in(world, done, monkeypatch, capsys):
    """Run the command of a line, if it is one of diffjax. A finished run is not trained again."""

    def run(words: list[str]) -> None:
        line = shlex.join(words)
        found = None if line in done else command(expanded(words, world / "home"))
        if not found:
            return
        name, flags = found
        if name == "serve":  # it does not end; tests/serve starts it
            cli.read(importlib.import_module("diffjax.serve").flags(), flags)
            return
        small = flags if "--list" in flags else reduced(name, flags)
        if name == "train":
            afresh(small)
        else:
            done.add(line)
        code = ended(monkeypatch, name, *small)
        assert code == 0, f"{line}\n{capsys.readouterr().err}"

    return run


def afresh(flags: list[str]) -> None:
    """Remove the run of another example, in whose folder this one would be refused."""
    given = cli.read(train.flags(), flags)
    settings = config.override(config.load(given.config), given.overrides)
    if (file := given.workdir / "config.json").exists():
        same = json.loads(file.read_text()) == json.loads(json.dumps(settings))
        if not (same and (given.workdir / "checkpoints").exists()):
            shutil.rmtree(given.workdir)


@pytest.mark.thorough
@pytest.mark.parametrize("document", having("sh"))
def test_commands_run(document, type_in):
    """A reader would type a line of the page, and be refused."""
    for block in blocks(text(document)):
        for words in lines(block.text) if block.language == "sh" else ():
            type_in(words)
