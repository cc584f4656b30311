"""Data sources, each a function `(split, **settings) -> Source`, and the input pipeline.

`SOURCES` is the catalogue. A config may write the first setting after `split` behind the name of
the source: `tfds:cifar10`, `folder:PATH`.
"""

from diffjax.arrays import catalogue
from diffjax.data.array import array
from diffjax.data.augment import AUGMENTATIONS
from diffjax.data.digits import digits
from diffjax.data.folder import folder
from diffjax.data.form import Form
from diffjax.data.images import to_float, to_uint8
from diffjax.data.kinds import KINDS, Kind
from diffjax.data.latents import latents
from diffjax.data.pipeline import Batches, Reading, centre, read, select
from diffjax.data.source import Memory, Source, load
from diffjax.data.table import table
from diffjax.data.tfds import tfds
from diffjax.data.toys import checkerboard, moons

SOURCES = catalogue(tfds, folder, array, table, latents, digits, moons, checkerboard)

__all__ = [
    "AUGMENTATIONS",
    "KINDS",
    "SOURCES",
    "Batches",
    "Form",
    "Kind",
    "Memory",
    "Reading",
    "Source",
    "array",
    "centre",
    "checkerboard",
    "digits",
    "folder",
    "latents",
    "load",
    "moons",
    "read",
    "select",
    "table",
    "tfds",
    "to_float",
    "to_uint8",
]
