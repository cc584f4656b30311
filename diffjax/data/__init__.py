"""Data sources, each `(split, **settings) -> Source`, and the pipeline; the catalogue is here."""

from diffjax.arrays import catalogue
from diffjax.data.digits import digits
from diffjax.data.images import to_float, to_uint8
from diffjax.data.pipeline import Batches, read
from diffjax.data.source import Source
from diffjax.data.toys import checkerboard, moons

SOURCES = catalogue(digits, moons, checkerboard)

__all__ = [
    "SOURCES",
    "Batches",
    "Source",
    "checkerboard",
    "digits",
    "moons",
    "read",
    "to_float",
    "to_uint8",
]
