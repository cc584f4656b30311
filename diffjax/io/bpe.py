"""Tokenizer of CLIP: byte pairs (arXiv:1508.07909) of its published vocabulary."""

from __future__ import annotations

import functools
import gzip
import html
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffjax.io.standard import Standard

STANDARD = Standard(
    "https://github.com/openai/CLIP/raw/main/clip/bpe_simple_vocab_16e6.txt.gz",
    "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
)
MERGES = 49152 - 256 - 2
"""Number of pairs of the file that are tokens."""
START, END = "<|startoftext|>", "<|endoftext|>"
FIXED = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)", re.IGNORECASE)
QUOTES = dict.fromkeys(map(ord, "\u02bc\u2018\u2019\u201a\u201b"), "'")
QUOTES |= dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f"), '"')
RUNS = re.compile(r"L+|N|o+")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer of captions.

    ids: the id of each token. ranks: the ranks of the pairs that merge into one token, the lowest
    first.
    """

    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]

    def __call__(self, captions: Sequence[str], length: int = 77) -> np.ndarray:
        """Return tokens (N, length) from START to END, followed by zeros.

        Captions that are too long are cut before END. The tokens are those of the original, but for
        ligatures and text in broken encodings, which the original repairs first.
        """
        rows = np.zeros((len(captions), length), np.int32)
        for row, caption in zip(rows, captions, strict=True):
            ids = [self.ids[token] for word in words(caption) for token in self.tokens(word)]
            ids = [self.ids[START], *ids[: length - 2], self.ids[END]]
            row[: len(ids)] = ids
        return rows

    def tokens(self, word: str) -> list[str]:
        """Return the parts of a word; the last part ends in `</w>`."""
        if word in (START, END):
            return [word]
        parts = [alphabet()[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while pairs := [p for p in itertools.pairwise(parts) if p in self.ranks]:
            first = min(pairs, key=self.ranks.__getitem__)
            merged, i = [], 0
            while i < len(parts):
                joined = tuple(parts[i : i + 2]) == first
                merged.append("".join(first) if joined else parts[i])
                i += 1 + joined
            parts = merged
        return parts


def read(path: Path) -> Tokenizer:
    """Read a tokenizer from bpe_simple_vocab_16e6.txt.gz, or from merges.txt of Hugging Face.

    Raises ValueError for a file that holds no pairs, or that cannot be read.
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")[1 : MERGES + 1]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"vocabulary={str(path)!r}: cannot be read ({error})") from error
    pairs = [tuple(line.split()) for line in lines if line]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"vocabulary={str(path)!r}: needs two parts in each line")
    single = list(alphabet().values())
    whole = [*single, *(f"{c}</w>" for c in single), *map("".join, pairs), START, END]
    return Tokenizer(
        {token: i for i, token in enumerate(whole)},
        {(a, b): i for i, (a, b) in enumerate(pairs)},
    )


@functools.cache
def alphabet() -> dict[int, str]:
    """Return a visible character for each byte, in the order of tokens: Latin-1, then others."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def words(caption: str) -> Iterator[str]:
    """Split a caption into runs of letters, single digits, runs of other characters, and endings.

    Endings are those of English, such as 've.
    """
    caption = unicodedata.normalize("NFC", caption.translate(QUOTES))
    text = " ".join(html.unescape(html.unescape(caption)).split()).lower()
    kinds, at = "".join(map(kind, text)), 0
    while at < len(text):
        match = FIXED.match(text, at) or RUNS.match(kinds, at)
        if match:
            yield text[at : match.end()]
        at = match.end() if match else at + 1


def kind(character: str) -> str:
    """Return L for a letter, N for a number, a space for a space, and o for anything else."""
    category = unicodedata.category(character)[0]
    return " " if character.isspace() else category if category in "LN" else "o"
