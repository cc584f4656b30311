"""Docstrings, which are plain text, as reStructuredText.

Their form: paragraphs; what is indented stays as it is; `code` between single quotes; "name: what
it is." for an argument, at the start of a sentence; sentences that begin with Returns and Raises.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
FIELD = re.compile(r"(?:^|(?<=[.;:] ))(\w+(?:, \w+)*)((?: \([^)]*\))?): ")
ENDING = re.compile(r"(?:^|(?<=\. ))(?=Returns |Raises [A-Z]\w+)")


def inline(text: str) -> str:
    """One paragraph: code as code, papers as links, all else as it is."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(f"`{p}`" if p[:1] == "`" and len(p) > 1 else _escaped(p) for p in parts)


def _escaped(text: str) -> str:
    text = re.sub(r"([\\*|`]|(?<=\w)_(?!\w))", r"\\\1", text)
    return PAPER.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)


def fields(paragraph: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """What a paragraph says first, and its fields: arguments, what is returned, what is raised."""
    first, *endings = ENDING.split(paragraph)
    found = [_ending(e.strip()) for e in endings]
    starts = [m for m in FIELD.finditer(first) if set(m[1].split(", ")) <= set(arguments)]
    ends = [m.start() for m in starts[1:]] + [len(first)]
    told = []
    for m, end in zip(starts, ends, strict=False):
        shape = m[2].strip()
        said = inline(f"{shape and shape + ' '}{first[m.end() : end].strip()}")
        told += [f":param {name}: {said}" for name in m[1].split(", ")]
    return first[: starts[0].start()].strip() if starts else first.strip(), told + found


def _ending(sentence: str) -> str:
    kind, rest = sentence.split(" ", 1)
    if kind == "Returns":
        return f":returns: {inline(rest)}"
    error, _, rest = rest.partition(" ")
    return f":raises {error.rstrip('.')}: {inline(rest)}"


def rst(docstring: str, arguments: Iterable[str] = ()) -> list[str]:
    """Lines of the docstring of something with these arguments."""
    made: list[str] = []
    ends: list[str] = []
    for kind, lines in blocks(textwrap.dedent(docstring).strip("\n")):
        if kind == "example":
            made += [*lines, ""]
        elif kind == "indented":
            code = textwrap.indent(textwrap.dedent("\n".join(lines)), "  ")
            made += ["::", "", *code.split("\n"), ""]
        elif kind == "item":
            made += ["- " + inline(" ".join(" ".join(lines)[2:].split())), ""]
        else:
            text, found = fields(" ".join(lines), tuple(arguments))
            made += [inline(text), ""] if text else []
            ends += found
    return [*made, *ends, *([""] if ends else [])]


def blocks(docstring: str) -> Iterator[tuple[str, list[str]]]:
    """Paragraphs with their kind; each item of a list is one."""
    kind: str | None = None
    lines: list[str] = []
    for line in [*docstring.split("\n"), ""]:
        now = _kind(line, kind)
        if lines and (now != kind or line.startswith("- ")):
            yield kind or "text", lines
            lines = []
        kind = now
        lines += [line] if now else []


def _kind(line: str, before: str | None) -> str | None:
    """None between paragraphs."""
    if not line.strip():
        return None
    if line.startswith(">>>") or before == "example":
        return "example"
    if line.startswith("- "):
        return "item"
    if line.startswith(" "):
        return "item" if before == "item" else "indented"
    return "text"


def summary(docstring: str) -> str:
    """The first paragraph in one line."""
    return " ".join(docstring.strip().split("\n\n")[0].split())
