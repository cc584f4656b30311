"""What the documents hold: fenced blocks, the commands in them, links and anchors."""

from __future__ import annotations

import glob
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MADE = ("docs/_build", "docs/api", "docs/commands", "docs/notebooks")
"""Folders that the site's build writes."""
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.M | re.S)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
COMMAND = "-m diffjax"


def documents() -> list[Path]:
    """Those whose blocks are run, relative to the root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "experiments").rglob("*.md"))
    paths = [path.relative_to(ROOT) for path in found]
    return [path for path in paths if not any(path.is_relative_to(made) for made in MADE)]


class Block(NamedTuple):
    """language: what stands behind the fence. line: that of its first line, from 1."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """Fenced blocks, in order."""
    found = []
    for match in FENCE.finditer(markdown):
        indent, _, language, text = match.groups()
        text = re.sub(rf"^{indent}", "", text, flags=re.M)
        found.append(Block(language.strip(), text, markdown[: match.start(4)].count("\n") + 1))
    return found


def lines(shell: str) -> Iterator[list[str]]:
    """The words of each simple command; what is assigned on a line of its own is filled in."""
    known: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", " ", shell).splitlines():
        lexer = shlex.shlex(Template(line).safe_substitute(known), True, punctuation_chars="&|;")
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
    """`python -m diffjax.NAME FLAGS`, also within a launcher or its quotes: (NAME, FLAGS)."""
    for inner in words:
        if COMMAND in inner:
            return next(filter(None, map(command, lines(inner.partition("=")[2] or inner))), None)
    for i, (option, module) in enumerate(itertools.pairwise(words)):
        if option == "-m" and module.startswith("diffjax."):
            return module.removeprefix("diffjax."), words[i + 2 :]
    return None


def expanded(words: list[str], home: Path) -> list[str]:
    """As the shell hands them over: the home folder, and files by pattern."""
    filled = [Template(word).safe_substitute(HOME=str(home)) for word in words]
    return [
        found
        for word in filled
        for found in (sorted(glob.glob(word)) if "*" in word and word[0] != "-" else []) or [word]
    ]


def anchors(markdown: str) -> set[str]:
    """Of the headings, as GitHub and MyST name them."""
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
    """Targets of links and pictures within the repository."""
    plain = re.sub(r"`[^`\n]*`", "", FENCE.sub("", markdown))
    found = [one or other for one, other in LINK.findall(plain)]
    return [target for target in found if not re.match(r"\w+:", target)]
