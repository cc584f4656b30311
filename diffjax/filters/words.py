"""A filter of prompts by a list of words."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

from diffjax.files import reason
from diffjax.filters.base import Filter


def words(path: str) -> Filter:
    """Refuse prompts that contain a word or a phrase of a list.

    path: a text file with a word or a phrase per line; lines that begin with # are comments.
    Prompts and list are compared by whole words, without case, accents and punctuation: `Hell`
    stops no `shell`. The list says nothing about images, and other spellings pass. Raises
    ValueError for a file that cannot be read or has no words.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     _ = (Path(place) / "no.txt").write_text("# ours\\nnasty thing\\n")
    ...     words(f"{place}/no.txt").texts("a nasty-thing")
    Traceback (most recent call last):
    ValueError: prompt 'a nasty-thing': contains 'nasty thing', line 2 of no.txt
    """
    file = Path(path).expanduser()
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path={path!r}: cannot be read ({reason(error)})") from error
    listed = {i: normalised(line) for i, line in enumerate(lines, 1) if line.strip()[:1] != "#"}
    listed = {i: phrase for i, phrase in listed.items() if phrase}
    if not listed:
        raise ValueError(f"path={path!r}: holds no words")
    check = functools.partial(_check, listed, file.name)
    return Filter("words", texts=check, facts={"list": file.name, "words": len(listed)})


def normalised(text: str) -> str:
    """Return the words of a text in lower case, without accents, separated by single spaces.

    >>> normalised("Déjà-vu,  TWICE")
    'deja vu twice'
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", letters.replace("_", " ")))


def _check(listed: dict[int, str], name: str, text: str) -> None:
    prompt = f" {normalised(text)} "
    for line, phrase in listed.items():
        if f" {phrase} " in prompt:
            raise ValueError(f"prompt {text!r}: contains {phrase!r}, line {line} of {name}")
