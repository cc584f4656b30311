"""Lines of a text file as tokens: one letter per position, and blanks behind the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffjax.checks import at_least
from diffjax.data.source import Memory, check_split, part

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def lines(
    split: str,
    path: str = "",
    length: int = 12,
    alphabet: str = ALPHABET,
    holdout: float = 0.1,
) -> Memory:
    """Read the lines of a text file, such as words, as items (length, 1) in [-1, 1].

    A letter is one of equally spaced levels, its place in `alphabet`, and a blank is one level
    more, the last; so discrete diffusion needs `config.loss.process.levels = len(alphabet) + 1`.
    Lines that are empty, longer than `length` or have other letters are left out, and equal lines
    are one item. The share `holdout` of the lines is held out, by their letters. Raises ValueError
    for a file that cannot be read or has no such line, and for settings out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "words")
    ...     _ = file.write_text("abba\\ncab\\nCab\\n")
    ...     items = lines("train", str(file), length=4, alphabet="abc", holdout=0.0)
    >>> items, texts(items.x, "abc")
    (Memory(2 sequence items of (4, 1) float32, classes=0), ['abba', 'cab'])
    """
    check_split(split, "lines")
    at_least(1, length=length)
    if not alphabet or len({*alphabet}) < len(alphabet):
        raise ValueError(f"alphabet={alphabet!r}: needs letters that differ")
    place = Path(path).expanduser()
    if not path or not place.is_file():
        raise ValueError(f"path={path!r}: no such file; the form is name=lines:PATH")
    try:
        read = place.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path={path!r}: cannot be read ({error})") from error
    kept = sorted({s for s in read if 0 < len(s) <= length and {*s} <= {*alphabet}})
    if not kept:
        raise ValueError(
            f"path={path!r}: has no line of up to {length} letters of {alphabet!r} alone"
        )
    chosen = [kept[i] for i in part(kept, split, holdout)]
    units = (("alphabet", alphabet), ("levels", len(alphabet) + 1))
    return Memory(items(chosen, length, alphabet), kind="sequence", units=units)


def items(texts: list[str], length: int, alphabet: str = ALPHABET) -> np.ndarray:
    """Return texts of up to `length` letters as items (N, length, 1) in [-1, 1].

    >>> items(["ab"], 3, "ab").ravel().tolist()
    [-1.0, 0.0, 1.0]
    """
    number = {letter: k for k, letter in enumerate(alphabet)}
    codes = np.full((len(texts), length, 1), len(alphabet))
    for row, text in zip(codes, texts, strict=True):
        row[: len(text), 0] = [number[letter] for letter in text]
    return (2 * codes / len(alphabet) - 1).astype(np.float32)


def texts(x: Any, alphabet: str = ALPHABET) -> list[str]:
    """Return items (N, length, 1) as texts; a blank before a letter is a space.

    >>> texts(items(["ab", "b"], 3, "ab"), "ab")
    ['ab', 'b']
    """
    codes = np.rint((np.asarray(x, np.float64)[..., 0] + 1) / 2 * len(alphabet)).astype(int)
    letters = np.array([*alphabet, " "])
    return ["".join(row).rstrip() for row in letters[np.clip(codes, 0, len(alphabet))]]
