"""Conditions: the inputs of a network besides x and the noise level, one file per kind.

unet(conditions=(Label(10), Tokens(768, "caption"), To()))
"""

from diffjax.arrays import catalogue
from diffjax.nets.conditions.augment import Augment
from diffjax.nets.conditions.base import (
    MECHANISMS,
    Condition,
    absent,
    after_null,
    kind,
    learned,
    place,
    present,
    spec,
)
from diffjax.nets.conditions.guidance import Guidance
from diffjax.nets.conditions.label import Label
from diffjax.nets.conditions.length import Length
from diffjax.nets.conditions.map import Map
from diffjax.nets.conditions.pairs import Pairs
from diffjax.nets.conditions.several import Conditions, settled
from diffjax.nets.conditions.still import Still
from diffjax.nets.conditions.to import To
from diffjax.nets.conditions.tokens import Tokens
from diffjax.nets.conditions.vector import Vector
from diffjax.nets.conditions.words import Words

CONDITIONS = catalogue(
    *(Label, Vector, Tokens, Words, Map, Pairs, Length, Augment, To, Guidance, Still)
)

__all__ = [
    "CONDITIONS",
    "MECHANISMS",
    "Augment",
    "Condition",
    "Conditions",
    "Guidance",
    "Label",
    "Length",
    "Map",
    "Pairs",
    "Still",
    "To",
    "Tokens",
    "Vector",
    "Words",
    "absent",
    "after_null",
    "kind",
    "learned",
    "place",
    "present",
    "settled",
    "spec",
]
