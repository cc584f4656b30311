"""Code in the documents must run unchanged, and links must have a target."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import jax
import pytest
from documents import (
    FIRST,
    ROOT,
    Block,
    anchors,
    blocks,
    command,
    documents,
    having,
    lines,
    links,
    prepare,
    text,
)

from diffjax import builder, cli, config
from diffjax.data.form import Form, labelled
from diffjax.draws import DRAWS
from diffjax.evaluation import OF_SAMPLES
from diffjax.grids import GRIDS
from diffjax.samplers import SAMPLERS
from diffjax.specs import Spec
from diffjax.weights import WEIGHTS

DOCUMENTS = documents()
LANGUAGES = ("python", "sh", "bash", "text", "console", "ipython")
OTHERS = (
    *("make", "pip", "git", "cd", "export", "tensorboard", "xprof", "tfds", "for", "do", "done"),
    *("pytest", ".venv/bin/pytest", ".venv/bin/pre-commit", ".venv/bin/ruff", ".venv/bin/pyright"),
    *("source", "curl", "scancel", "sbatch", "kubectl", "open"),
)
"""Commands of others: nothing is known of their flags."""
FORMS = {
    "imagenet64": (64, 64, 3),
    "imagenet256": (32, 32, 4),
    "cifar": (32, 32, 3),
    "digits_latent": (4, 4, 2),
}
"""Items of the data sets that are not at hand, by the beginning of a config's name."""
PACKAGED = {
    "meshes": Form("cloud", (256, 3), (Spec("seen", "tokens", 3),)),
    "molecules": Form("molecule", (20, 8), (Spec("length", "length", 20),)),
    "conformers": Form(
        "conformer",
        (20, 3),
        (
            Spec("elements", "map", 5),
            Spec("bonds", "pairs", 5),
            Spec("length", "length", 20),
        ),
    ),
}
"""Forms of sources whose packages are not at hand."""


def reference():
    """Load `docs/commands.py`, which is in no package."""
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
    prepare(world := tmp_path_factory.mktemp("world"))
    return world


@pytest.mark.parametrize("document", having("python"))
def test_python_runs(document, prepared, monkeypatch, capsys):
    """A reader would copy an example that fails."""
    monkeypatch.chdir(prepared)
    scope: dict[str, Any] = {}
    for block in blocks(text(document)):
        if block.language == "python":
            placed = "\n" * (block.line - 1) + block.text
            exec(compile(placed, str(ROOT / document), "exec"), scope)
    if document == Path("README.md"):
        assert isinstance(scope["x"], jax.Array)
        assert scope["x"].mean() == pytest.approx(0.7, abs=0.05)
        assert "rows, y = eps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("catalogue", "words"),
    [
        (SAMPLERS, "tables"),
        (GRIDS, "rules"),
        (WEIGHTS, "weights"),
        (DRAWS, "distributions of t"),
        (OF_SAMPLES, "metrics of samples"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_readme_counts_right(catalogue, words):
    """Numbers in README.md would be those of an older catalogue."""
    assert f" {len(catalogue)} {words}" in text(Path("README.md"))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(d, marks=() if str(d) in FIRST else pytest.mark.thorough, id=str(d))
        for d in DOCUMENTS
    ],
)
def test_commands_are_there_with_their_flags(document, capsys):
    """A renamed flag or field would be refused, after the reader has found a machine."""
    for block in blocks(text(document)):
        assert block.language in LANGUAGES or block.language[:1] == "{", block
        for words in lines(block.text) if block.language in ("sh", "bash") else ():
            understood(words, block, capsys)


def understood(words: list[str], block: Block, capsys, builds: bool = True) -> None:
    """Assert that a reader can type this line. builds: whether its config is built too."""
    words = words[next(i for i, w in enumerate(words) if not re.match(r"[A-Z_]+=", w)) :]
    line = f"line {block.line}: {' '.join(words)}"
    if found := command(words):
        given = parsed(*found, line, capsys)
        name, overrides = getattr(given, "config", None), getattr(given, "overrides", None)
        if builds and name and overrides is not None and not str(name).startswith("runs/"):
            built(name, tuple(overrides))
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {w for w in words[1:] if "=" not in w} <= set(targets), line
    elif words[0] == "python" and words[1].endswith(".py"):
        source = (ROOT / words[1]).read_text()
        for flag in re.findall(r"--([\w-]+)", " ".join(words[2:])):
            assert re.search(rf"['\"](--)?{flag.replace('-', '[-_]')}['\"]|\b{flag}:", source), line
    else:
        assert words[0] in OTHERS or words[:2] == ["python", "-m"], line


def parsed(name: str, flags: list[str], line: str, capsys) -> Any:
    """Return the parsed flags, or None where a flag only prints and exits."""
    try:
        return cli.read(importlib.import_module(f"diffjax.{name}").flags(), flags)
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{line}\n{capsys.readouterr().err}")


@functools.cache
def built(name: str, overrides: tuple[str, ...]) -> None:
    """Build the experiment of a command; raises ConfigError for what would be refused."""
    settings = config.override(config.load(name), overrides)
    for depth in ("blocks", "depth"):  # one repetition is traced in a third of the time
        if depth in settings["network"] and f"network.{depth}" not in str(overrides):
            pairs = settings["network"].get("attention") == "factorised"
            settings["network"][depth] = 1 + pairs
    data = settings["data"]
    shape = next((s for start, s in FORMS.items() if Path(name).stem.startswith(start)), None)
    # Pairs, latents and a prior of digits that an earlier command writes.
    if data["name"].startswith(("array:runs/", "latents:data/digits", "dreambooth")):
        shape = (8, 8, 1)
    kind = "latent" if data["name"].startswith("latents") else "image"
    if shape and (side := data.get("crop") or data.get("size")):
        shape = (side, side, data.get("channels", 3))
    form = shape and labelled(kind, shape, 1000 * bool(data.get("labels")))
    if data.get("vocabulary"):  # a run with words that an earlier command writes
        words = Spec("text", "words", 2)
        form = Form("image", (32, 32, 3), (words,), "uint8", texts=("text",), vocabulary=("a", "b"))
    builder.experiment(settings, PACKAGED.get(data["name"], form))


@pytest.mark.parametrize("document", [*DOCUMENTS, Path("CHANGELOG.md")], ids=str)
def test_links_lead_somewhere(document, pages):
    """A reader would follow a link to nothing."""
    for link in links(text(document)):
        path, _, anchor = link.partition("#")
        if document.parts[0] == "docs" and (anchor.startswith("diffjax.") or "api/" in path):
            continue  # Sphinx resolves these
        target = (ROOT / document.parent / path).resolve() if path else ROOT / document
        if target.is_relative_to(ROOT / "docs" / "commands"):
            target = pages / target.relative_to(ROOT / "docs" / "commands")
        if target.is_relative_to(ROOT / "docs" / "notebooks"):
            target = ROOT / "experiments" / target.relative_to(ROOT / "docs")
        assert target.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{document}: {link}"


def options(flags: Any) -> set[str]:
    """Return all options of a parser and of its subcommands."""
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
    assert set(made.NAMES) == {"train", "sample", "evaluate", "serve"} | tools
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
    assert tuple(reference().SECTIONS) == builder.SECTIONS[1:]
    assert re.findall(r"^## (.*)", page, re.M) == [*builder.SECTIONS[1:]]
    for name in (
        "steps_per_dispatch",
        "condition_dropout",
        "corrector",
        "learning_rate",
        "balanced",
    ):
        assert f"| `{name}` |" in page
    assert not re.findall(r"^\| `\w+` \|\s+\|.*", page, re.M)


def test_the_catalogues_of_the_reference_are_there(pages):
    """A moved module would break the build of the site."""
    shown = [b.language for page in pages.glob("*.md") for b in blocks(page.read_text())]
    paths = {a.removeprefix("{catalogue} ") for a in shown if a.startswith("{catalogue} ")}
    assert {"diffjax.samplers.SAMPLERS", "diffjax.features.EXTRACTORS"} < paths
    for module, _, name in (path.rpartition(".") for path in paths):
        assert getattr(importlib.import_module(module), name)


def test_examples_of_the_commands_can_be_typed(pages, capsys):
    """The first example of `--help` would be refused."""
    for page in sorted(pages.glob("*.md")):
        for block in blocks(page.read_text()):
            for words in lines(block.text) if block.language == "bash" else ():
                understood(words, block, capsys, builds=False)


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    """A user would search for a line that no version prints any more."""
    source = "".join(path.read_text() for path in sorted((ROOT / "diffjax").rglob("*.py")))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    entries = re.findall(r"^(`.+`)$\n: ", page, re.M)
    messages = [message for line in entries for message in re.findall(r"`([^`]+)`", line)]
    assert len(messages) > 40
    gone = [message for message in messages if len(longest(message.split(), source)) < 8]
    assert not gone


def longest(words: list[str], source: str) -> str:
    """Return the longest run of these words that occurs in the source."""
    spans = ((i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
    runs = (" ".join(words[i:j]).strip(":;,()'") for i, j in spans)
    return max((run for run in runs if run in source), key=len, default="")
