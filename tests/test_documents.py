"""What the documents say must run as it stands, and lead somewhere."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import TINY, ended
from documents import ROOT, Block, anchors, blocks, command, documents, expanded, lines, links
from PIL import Image

from diffjax import build, cli, config, train
from diffjax.data import digits
from diffjax.tools import likelihood
from diffjax.training.experiment import Form

DOCUMENTS = documents()
LANGUAGES = ("python", "sh", "bash", "text", "console")
OTHERS = (
    *("make", "pip", "git", "cd", "export", "tensorboard", "xprof", "tfds", "for", "do", "done"),
    *("pytest", ".venv/bin/pytest", ".venv/bin/pre-commit", ".venv/bin/ruff", ".venv/bin/pyright"),
    *("source", "curl", "scancel", "sbatch", "kubectl", "open"),
)
"""Commands of others: nothing is known of their flags."""
NETWORKS = {
    "unet": [t for t in TINY if t.startswith("network.")],
    "mlp": ["network.width=16", "network.depth=1"],
    "dit": ["network.width=8", "network.depth=1", "network.heads=2"],
    "edm2": ["network.channels=8", "network.multipliers=(1,)", "network.blocks=1"],
}
FEW = {
    "sample": ["--num=4"],
    "evaluate": ["--num=20", "--real=100"],
    "tools.compare": ["--num=4"],
    "tools.prepare": ["--size=8"],
    "tools.steps": ["--num=2", "--steps=3", "--most=6", "--error=1000"],
    "tools.grid": ["--num=64", "--most=2"],
}
RUNS = {"runs/digits": "digits_vp", "runs/moons": "moons_vp"}
FORMS = {"imagenet64": (64, 64, 3), "imagenet256": (32, 32, 4), "cifar": (32, 32, 3)}
"""Items of the data sets that are not at hand, by the beginning of a config's name."""


def reference():
    """`docs/commands.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "commands.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The command reference, written anew."""
    folder = tmp_path_factory.mktemp("docs") / "commands"
    reference().write(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """What the examples take for granted: trained runs, samples, pictures."""
    world = tmp_path_factory.mktemp("prepared")
    (world / "configs").symlink_to(ROOT / "configs")
    real = digits("train")
    for i, name in enumerate(("a", "b", "theirs")):
        some = slice(50 * i, 50 * i + 50)
        np.savez(world / f"{name}.npz", real.x[some], real.label[some])
    rng = np.random.default_rng(0)
    for k in range(40):
        folder = world / "home" / "pictures" / ("ape", "bee")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{k}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        for workdir, name in RUNS.items():
            flags = [f"--config={name}", f"--workdir={workdir}"]
            assert ended(patch, "train", *reduced("train", flags)) == 0
    return world


@pytest.fixture
def world(prepared, tmp_path, monkeypatch) -> Path:
    """A folder of a user's own, with all of that."""
    folder = shutil.copytree(prepared, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setattr(likelihood, "POINTS", 6)
    return folder


def reduced(name: str, flags: list[str]) -> list[str]:
    """The same command, made small."""
    given = cli.read(importlib.import_module(f"diffjax.{name}").flags(), flags)
    more = [*FEW.get(name, ())]
    if name == "train":
        network = config.override(config.load(given.config), given.overrides)["network"]["name"]
        own = NETWORKS[network] + [t for t in TINY if not t.startswith("network.")]
        own += [f"train.{k}=3" for k in ("held_out_every", "snapshot_every") if k in str(flags)]
        own += ["data.size=8"] if "data.size" in str(flags) else []
        more = [f"--config.{assignment}" for assignment in own]
    elif name in ("sample", "evaluate") and "explicit" not in str(given.grid):
        more += ["--steps=3"]
    elif name == "tools.likelihood":
        more = ["--num=2"] + (["--steps=2"] if given.command != "rank" else [])
    for flag in ("metrics", "metric"):
        if re.search("bpd|vlb", getattr(given, flag, None) or ""):
            more += [f"--{flag}={quick(getattr(given, flag))}"]
    return flags + more


def quick(metrics: str) -> str:
    """Of the network: on few images, with few steps or noise levels."""
    few = {"bpd": "num=4,steps=2", "vlb": "num=4,samples=2"}
    parts = [(entry, few.get(entry.partition(":")[0])) for entry in config.entries(metrics)]
    return ",".join(f"{e}{',' if ':' in e else ':'}{add}" if add else e for e, add in parts)


def typed(monkeypatch, capsys, words: list[str], world: Path) -> None:
    """Run the command of a line, if it is one of ours."""
    found = command(expanded(words, world / "home"))
    if not found:
        return
    name, flags = found
    small = flags if "--list" in flags or "--help" in flags else reduced(name, flags)
    if name == "train":
        afresh(small)
    code = ended(monkeypatch, name, *small)
    assert code == 0, f"{' '.join(words)}\n{capsys.readouterr().err}"


def afresh(flags: list[str]) -> None:
    """Remove a prepared run that is to be trained in another way."""
    given = cli.read(train.flags(), flags)
    file = given.workdir / "config.json"
    settings = config.override(config.load(given.config), given.overrides)
    prepared = str(given.workdir) in RUNS and file.exists()
    if prepared and json.loads(file.read_text()) != json.loads(json.dumps(settings)):
        shutil.rmtree(given.workdir)


def marked(document: Path) -> Any:
    """Studies take minutes, and are run when asked for."""
    marks = [pytest.mark.exhaustive] if document.parts[0] == "experiments" else []
    return pytest.param(document, marks=marks, id=str(document))


@pytest.mark.parametrize("document", [marked(d) for d in DOCUMENTS])
def test_blocks_run(document, world, monkeypatch, capsys):
    """A reader would copy an example and see it fail."""
    scope: dict[str, Any] = {}
    for block in blocks((ROOT / document).read_text()):
        if block.language == "python":
            text = "\n" * (block.line - 1) + block.text
            exec(compile(text, str(ROOT / document), "exec"), scope)
        for words in lines(block.text) if block.language == "sh" else ():
            typed(monkeypatch, capsys, words, world)
    if document.name == "README.md" and document.parent == Path():
        assert isinstance(scope["x"], jax.Array)
        assert scope["x"].mean() == pytest.approx(0.7, abs=0.05)
        assert "rows, y = eps" in capsys.readouterr().out


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_are_there_with_their_flags(document, capsys):
    """A flag or field that was renamed would be refused, after the reader has found the machine."""
    for block in blocks((ROOT / document).read_text()):
        assert block.language in LANGUAGES or block.language[:1] == "{", block
        for words in lines(block.text) if block.language in ("sh", "bash") else ():
            understood(words, block, capsys)


def understood(words: list[str], block: Block, capsys) -> None:
    """That a line can be what the reader has to type."""
    words = words[next(i for i, w in enumerate(words) if not re.match(r"[A-Z_]+=", w)) :]
    line = f"line {block.line}: {' '.join(words)}"
    if found := command(words):
        parsed(*found, line, capsys)
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {w for w in words[1:] if "=" not in w} <= set(targets), line
    elif words[0] == "python" and words[1].endswith(".py"):
        source = (ROOT / words[1]).read_text()
        for flag in re.findall(r"--([\w-]+)", " ".join(words[2:])):
            assert re.search(rf"['\"](--)?{flag.replace('-', '[-_]')}['\"]|\b{flag}:", source), line
    else:
        assert words[0] in OTHERS or words[:2] == ["python", "-m"], line


def parsed(name: str, flags: list[str], line: str, capsys) -> None:
    try:
        given = cli.read(importlib.import_module(f"diffjax.{name}").flags(), flags)
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{line}\n{capsys.readouterr().err}")
        return
    if getattr(given, "config", None):
        built(given.config, tuple(getattr(given, "overrides", ())), name)


@functools.cache
def built(name: str, overrides: tuple[str, ...], command: str) -> None:
    """Raises ConfigError for what would be refused."""
    settings = config.override(config.load(name), overrides)
    stem, data = Path(name).stem, settings["data"]
    if command.startswith("tools.") and command != "tools.summary":
        return
    shape = next((s for start, s in FORMS.items() if stem.startswith(start)), None)
    if shape and (side := data.get("crop") or data.get("size")):
        shape = (side, side, data.get("channels", 3))
    form = shape and Form(shape, 1000 * bool(data.get("labels")))
    build.experiment(settings, form)


@pytest.mark.parametrize("document", [*DOCUMENTS, Path("CHANGELOG.md")], ids=str)
def test_links_lead_somewhere(document, pages):
    """A reader would end at nothing."""
    text = (ROOT / document).read_text()
    for link in links(text):
        path, _, anchor = link.partition("#")
        if document.parts[0] == "docs" and (anchor.startswith("diffjax.") or "api/" in path):
            continue  # Sphinx says where these lead
        target = (ROOT / document.parent / path).resolve() if path else ROOT / document
        if target.is_relative_to(ROOT / "docs" / "commands"):
            target = pages / target.relative_to(ROOT / "docs" / "commands")
        if target.is_relative_to(ROOT / "docs" / "notebooks"):
            target = ROOT / "experiments" / target.relative_to(ROOT / "docs")
        assert target.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{document}: {link}"


def options(flags: Any) -> set[str]:
    """All that a parser knows, of its commands too."""
    found = set()
    for action in flags._actions:
        found |= set(action.option_strings) - {"-h", "--help"}
        if isinstance(action.choices, dict):
            found |= set().union(*map(options, action.choices.values()))
    return found


def test_the_reference_has_every_command_and_flag(pages):
    """A flag would be found only by those who read the code."""
    tools = {f"tools.{p.stem}" for p in (ROOT / "diffjax" / "tools").glob("[!_]*.py")}
    made = reference()
    assert set(made.NAMES) == {"train", "sample", "evaluate"} | tools
    for name in made.NAMES:
        page = (pages / f"{made.slug(name)}.md").read_text()
        for option in options(made.module(name).flags()):
            assert re.search(rf"^\| `{option}[`=\[ ]", page, re.M), f"{name}: {option}"
            assert not re.search(rf"^\| `{option}[`=\[ ][^|]*\|  \|", page, re.M), (
                f"{option}: no help"
            )
        example = next(b for b in blocks(page) if b.language == "bash")
        assert command(next(lines(example.text))), name


def test_the_reference_has_every_field_of_a_config_with_its_meaning(pages):
    """A field would be found only by those who read the code."""
    page = (pages / "config.md").read_text()
    assert tuple(reference().SECTIONS) == build.SECTIONS[1:]
    assert re.findall(r"^## (.*)", page, re.M) == [*build.SECTIONS[1:]]
    for name in (
        "steps_per_dispatch",
        "condition_dropout",
        "corrector",
        "learning_rate",
        "balanced",
    ):
        assert f"| `{name}` |" in page
    assert not re.findall(r"^\| `\w+` \|\s+\|.*", page, re.M)
    for block in blocks(page):
        module, name = block.language.removeprefix("{catalogue} ").rsplit(".", 1)
        assert getattr(importlib.import_module(module), name)


def test_examples_of_the_commands_can_be_typed(pages, capsys):
    """The first thing that `--help` shows would be refused."""
    for page in sorted(pages.glob("*.md")):
        for block in blocks(page.read_text()):
            for words in lines(block.text) if block.language == "bash" else ():
                understood(words, block, capsys)
