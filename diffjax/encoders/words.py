"""Words of a closed vocabulary: the encoder that needs no other package and no weights."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffjax.checks import at_least
from diffjax.config import nearest
from diffjax.encoders.base import TEXT
from diffjax.specs import Spec

WORD = re.compile(r"[^\W_]+")
SHOWN = 60
"""Largest number of characters of a text in a message."""


def split(text: str) -> list[str]:
    """Return the words of a text: its runs of letters and digits, in lower case.

    >>> split("Red Apple, o'clock!")
    ['red', 'apple', 'o', 'clock']
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Words:
    """The places of the words of a text in a vocabulary, which holds the words of all captions.

    The network learns a vector for each word together with its other parameters, in the condition
    `nets.conditions.Words`. Case and punctuation do not count.

    vocabulary: the words in order. length: the largest number of words of a text. A text with a
    word that is not in the vocabulary, with more words, or with signs alone is refused. Raises
    ValueError for a vocabulary without words and for a length below 1.

    >>> words = Words(Words.learn(["red apple, noto style", "green apple"]))
    >>> words.vocabulary
    ('apple', 'green', 'noto', 'red', 'style')
    >>> words(["green style"])["text"][0, :4].tolist()
    [1, 4, -1, -1]
    >>> words(["green appel"])
    Traceback (most recent call last):
    ValueError: 'green appel': ...
    """

    vocabulary: tuple[str, ...]
    length: int = 24

    def __post_init__(self):
        at_least(1, length=self.length)
        if not self.vocabulary:
            raise ValueError("vocabulary: needs captions with at least one word")

    @staticmethod
    def learn(captions: Iterable[str], begin: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the words of all captions, sorted, after those with which a vocabulary begins.

        >>> Words.learn(["green sea"], begin=("red", "green"))
        ('red', 'green', 'sea')
        """
        new = {word for text in captions for word in split(text)} - set(begin)
        return (*begin, *sorted(new))

    @property
    def specs(self) -> tuple[Spec, ...]:
        return (Spec(TEXT, "words", len(self.vocabulary)),)

    @property
    def fingerprint(self) -> str:
        return ""

    @functools.cached_property
    def _places(self) -> Mapping[str, int]:
        return {word: place for place, word in enumerate(self.vocabulary)}

    def check(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._row(text)

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        rows = np.full((len(texts), self.length), -1, np.int32)
        for row, text in zip(rows, texts, strict=True):
            places = self._row(text)
            row[: len(places)] = places
        return {TEXT: rows}

    def _row(self, text: str) -> list[int]:
        """Return the places of the words of a text; raise ValueError where it is refused."""
        words, shown = split(text), text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
        if len(words) > self.length:
            raise ValueError(f"{shown!r}: has {len(words)} words; needs at most {self.length}")
        if text.strip() and not words:
            raise ValueError(f"{shown!r}: has no letter and no digit; the text of no words is ''")
        for word in words:
            if word not in self._places:
                hint, _, _ = nearest(word, self.vocabulary).partition(";")
                raise ValueError(
                    f"{shown!r}: unknown word {word!r}{hint}; the vocabulary has "
                    f"{len(self.vocabulary):,} words"
                )
        return [self._places[word] for word in words]
