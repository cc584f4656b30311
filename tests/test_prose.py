"""Documents use the terms of the field, and the core has the size that README.md states."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest
from documents import FENCE, ROOT, documents, text

REFUSED = {
    r"\bg(o|oes|oing|one) on (from|where|as|and|with)\b": "resumes, continues",
    r"\b(run|command|training|script|call) goes on\b": "resumes",
    r"\bbit (by|for) bit\b": "bit-for-bit identical",
    r"\bby the clock\b": "wall-clock time",
    r"\btimes as fast by\b": "wall-clock speed-up",
    r"\bknown again\b": "fingerprint, recognised",
    r"\b(is|are|was) told\b": "receives, is passed; is reported",
    r"\b(also|made) afterwards\b": "post-hoc",
    r"\bbelongs? into\b": "add it to",
    r"\bleft alone\b": "uninterrupted",
    r"\bends (with|like|at once|the run)\b": "exits, reaches",
    r"\b(did|does) other work\b": "was shared with other work",
    r"\beverything with its protocol\b": "has the full protocol",
    r"\bone's own\b": "your own",
    r"\bthis has not\b": "what it lacks",
    r"\bdata that do not come\b": "a stalled input pipeline",
    r"\bpeople, asked\b": "human evaluation",
    r"\bwhat there is to\b": "name it",
}
"""Phrases that came back too often in prose, and what to write instead."""
CORE = ("schedules/base", "sde", "parameterization", "prediction", "denoiser")
ENGINE = ("samplers/table", "samplers/program", "samplers/run")


def prose(markdown: str) -> str:
    """Return the document with blanks in place of code, so that lines keep their numbers."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])
    return re.sub(r"`[^`]*`", blank, FENCE.sub(blank, markdown))


def refused(written: str, phrases: tuple[str, ...]) -> list[str]:
    """Return line, phrase and replacement for each refused phrase."""
    found = []
    for phrase in phrases:
        for match in re.finditer(phrase.replace(" ", r"\s+"), written, re.I):
            line = written.count("\n", 0, match.start()) + 1
            found.append(f"line {line}: {' '.join(match[0].split())!r}: {REFUSED[phrase]}")
    return found


@pytest.mark.parametrize("document", documents(), ids=str)
def test_documents_use_the_terms_of_the_field(document):
    """A reader would stop at the language before reaching the ideas."""
    assert refused(prose(text(document)), tuple(REFUSED)) == []


def test_the_package_uses_the_terms_it_is_held_to():
    """A refused phrase would return to the docstrings and messages of the package."""
    files = sorted((ROOT / "diffjax").rglob("*.py"))
    phrases = tuple(REFUSED)
    places = {str(path.relative_to(ROOT)): refused(path.read_text(), phrases) for path in files}
    assert {place: lines for place, lines in places.items() if lines} == {}


@pytest.mark.parametrize("names", [CORE, ENGINE], ids=["core", "engine"])
def test_the_core_can_be_read_in_an_afternoon(names):
    """README.md would understate the core: fewer than 1,000 lines, without examples."""
    texts = [(ROOT / "diffjax" / f"{name}.py").read_text() for name in names]
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = (n for text in texts for n in ast.walk(ast.parse(text)) if isinstance(n, kinds))
    parsed = (doctest.DocTestParser().get_examples(ast.get_docstring(n) or "") for n in nodes)
    shown = sum(f"{e.source}{e.want}".count("\n") for examples in parsed for e in examples)
    assert sum(text.count("\n") for text in texts) - shown < 1000
    readme = text(Path("README.md"))
    assert all(f"`{Path(name).name}.py`" in readme or f"`{name}.py`" in readme for name in names)
