"""Encoders: what people write, as conditions of a network; a network never trains its encoder.

>>> encoder = Words(("apple", "red"), length=4)
>>> encoder(["Red apple", ""])["text"].tolist()
[[1, 0, -1, -1], [-1, -1, -1, -1]]
"""

from diffjax.arrays import catalogue
from diffjax.encoders.base import TEXT, Encoder
from diffjax.encoders.described import Described
from diffjax.encoders.words import Words

ENCODERS = catalogue(Words)

__all__ = ["ENCODERS", "TEXT", "Described", "Encoder", "Words"]
