"""Readers of the documents: fenced blocks, the commands in them, links and anchors."""

from __future__ import annotations

import glob
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from commands import TINY
from encoders_of_tests import folder as encoder
from PIL import Image

from diffjax import builder, config
from diffjax.data import digits
from diffjax.training.workdir import Weights, write_weights

ROOT = Path(__file__).parents[1]
MADE = ("docs/_build", "docs/api", "docs/commands", "docs/notebooks")
"""Folders that the site's build writes."""
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.M | re.S)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
COMMAND = "-m diffjax"
NETWORKS = {
    "unet": [
        "network.channels=8",
        "network.multipliers=(1,)",
        "network.blocks=1",
        "network.heads=2",
        "network.attention=()",
    ],
    "mlp": ["network.width=16", "network.depth=1"],
    "dit": ["network.width=8", "network.depth=1", "network.heads=2"],
    "egnn": ["network.width=8", "network.depth=1"],
    "edm2": ["network.channels=8", "network.multipliers=(1,)", "network.blocks=1"],
    "autoencoder": [
        "network.channels=2",
        "network.multipliers=(1,)",
        "network.groups=1",
        "train.held_out_every=3",
        "train.held_out=8",
    ],
}


def documents() -> list[Path]:
    """Return the documents whose blocks are executed, relative to the root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "experiments").rglob("*.md"))
    paths = [path.relative_to(ROOT) for path in found]
    return [path for path in paths if not any(path.is_relative_to(made) for made in MADE)]


class Block(NamedTuple):
    """A fenced block. language: the word behind the fence. line: its first line, from 1."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """Return the fenced blocks in order."""
    found = []
    for match in FENCE.finditer(markdown):
        indent, _, language, text = match.groups()
        text = re.sub(rf"^{indent}", "", text, flags=re.M)
        found.append(Block(language.strip(), text, markdown[: match.start(4)].count("\n") + 1))
    return found


def lines(shell: str) -> Iterator[list[str]]:
    """Return the words of each simple command, with variables of earlier lines filled in."""
    known: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", " ", shell).splitlines():
        filled = Template(line).safe_substitute(known)
        lexer = shlex.shlex(filled, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        part: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                assigned = [w.partition("=") for w in part]
                if part and all(re.fullmatch(r"\w+", name) and sign for name, sign, _ in assigned):
                    known |= {name: value for name, _, value in assigned}
                elif part:
                    yield part
                part = []
            else:
                part.append(word)


def command(words: list[str]) -> tuple[str, list[str]] | None:
    """Return (NAME, FLAGS) of `python -m diffjax.NAME FLAGS`, also within a launcher."""
    for inner in words:
        if COMMAND in inner:
            return next(filter(None, map(command, lines(inner.partition("=")[2] or inner))), None)
    for i, (option, module) in enumerate(itertools.pairwise(words)):
        if option == "-m" and module.startswith("diffjax."):
            return module.removeprefix("diffjax."), words[i + 2 :]
    return None


def expanded(words: list[str], home: Path) -> list[str]:
    """Expand arguments as the shell does: the home folder, and patterns of files."""
    filled = [Template(word).safe_substitute(HOME=str(home)) for word in words]
    return [
        found
        for word in filled
        for found in (sorted(glob.glob(word)) if "*" in word and word[0] != "-" else []) or [word]
    ]


FIRST = ("README.md", "CONTRIBUTING.md", "docs/index.md")
"""Documents that are read first: their blocks are run in `make test`."""


def having(language: str) -> list[Any]:
    """Return the documents with such blocks; those of studies take minutes and run on request."""
    found = [d for d in documents() if any(b.language == language for b in blocks(text(d)))]
    marks = {d: tier(d) or [pytest.mark.typed] * (language == "python") for d in found}
    return [pytest.param(d, marks=marks[d], id=str(d)) for d in found]


def tier(document: Path) -> list[pytest.MarkDecorator]:
    if document.parts[0] == "experiments":
        return [pytest.mark.exhaustive]
    return [] if str(document) in FIRST else [pytest.mark.thorough]


def text(document: Path) -> str:
    return (ROOT / document).read_text()


def prepare(world: Path) -> None:
    """Create the runs, encoders, samples and pictures that examples need, from random numbers."""
    rng = np.random.default_rng(0)
    encoder(world / "all-MiniLM-L6-v2", "bert")
    (world / "configs").symlink_to(ROOT / "configs")
    for name in ("digits", "moons"):
        e = builder.experiment(config.override(config.load(f"{name}_vp"), tiny(f"{name}_vp")))
        draw = lambda a: rng.normal(0, 0.1, a.shape).astype(a.dtype)
        params = jax.tree.map(draw, jax.eval_shape(e.initialise).params)
        write_weights(world / "runs" / name, e, Weights(6, params, "power"))
    real = digits("train")
    for i, name in enumerate(("a", "b", "theirs")):
        some = slice(50 * i, 50 * i + 50)
        np.savez(world / f"{name}.npz", real.x[some], real.label[some])
    Image.fromarray(real.x[0, :, :, 0]).save(world / "three.png")
    for k in range(40):
        folder = world / "home" / "pictures" / ("ape", "bee")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{k}.png")


def tiny(name: str, *changes: str) -> list[str]:
    """Return changes that make a run of this config short and its network small.

    A U-Net that no change mentions becomes a transformer, which compiles sooner.
    """
    made = config.override(config.load(name), changes)
    network = made["network"]["name"]
    mentions = lambda change: re.match(r"network(?!\.conditions)", change)
    if network == "unet" and not any(map(mentions, changes)):
        kernels = made.get("adapter", {}).get("name") in ("lora", "dora")
        return [*TINY, *(["adapter.where=blocks"] if kernels else [])]
    surplus = ("network", *(["sampling"] if network == "autoencoder" else []))
    pairs = ["network.depth=2"] if made["network"].get("attention") == "factorised" else []
    return NETWORKS[network] + pairs + [t for t in TINY if not t.startswith(surplus)]


def anchors(markdown: str) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST name them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", FENCE.sub("", markdown), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found
        )
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found | set(re.findall(r"^\(([\w.-]+)\)=$", markdown, re.M))


def links(markdown: str) -> list[str]:
    """Return the targets of links and pictures within the repository."""
    plain = re.sub(r"`[^`\n]*`", "", FENCE.sub("", markdown))
    found = [one or other for one, other in LINK.findall(plain)]
    return [target for target in found if not re.match(r"\w+:", target)]
