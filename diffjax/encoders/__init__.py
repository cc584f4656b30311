"""Encoders: what people write, as conditions of a network; a network never trains its encoder.

>>> encoder = Words(("apple", "red"), length=4)
>>> encoder(["Red apple", ""])["text"].tolist()
[[1, 0, -1, -1], [-1, -1, -1, -1]]
"""

from diffjax.arrays import catalogue
from diffjax.encoders.base import TEXT, Encoder
from diffjax.encoders.described import Described
from diffjax.encoders.language import language
from diffjax.encoders.pair import Pair, clip_pair
from diffjax.encoders.pretrained import POOLED, Pretrained, bert, clip, t5
from diffjax.encoders.stored_texts import Stored, TextEncoding, stored
from diffjax.encoders.with_t5 import WithT5, clip_pair_t5, clip_t5
from diffjax.encoders.words import Words

ENCODERS = catalogue(Words, bert, clip, clip_pair, clip_pair_t5, clip_t5, language, t5)

__all__ = [
    "ENCODERS",
    "POOLED",
    "TEXT",
    "Described",
    "Encoder",
    "Pair",
    "Pretrained",
    "Stored",
    "TextEncoding",
    "WithT5",
    "Words",
    "bert",
    "clip",
    "clip_pair",
    "clip_pair_t5",
    "clip_t5",
    "language",
    "stored",
    "t5",
]
