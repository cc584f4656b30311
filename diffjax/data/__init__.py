"""Data sources, each a function `(split, **settings) -> Source`, and the input pipeline.

`SOURCES` is the catalogue. A config may write the first setting after `split` behind the name of
the source: `tfds:cifar10`, `folder:PATH`.

Items in files of your own, as arrays or as images in one folder per class:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as place:
    ...     np.savez(f"{place}/points.npz", x=np.zeros((10, 2)), y=np.arange(10) % 2)
    ...     array("train", f"{place}/points.npz", holdout=0.0)
    Memory(10 points items of (2,) float32, classes=2)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name in ("cats", "dogs"):
    ...         Path(place, name).mkdir()
    ...         Image.new("RGB", (8, 8)).save(Path(place, name, "1.png"))
    ...     folder("train", place, holdout=0.0).form.class_names
    ('cats', 'dogs')
"""

from diffjax.arrays import catalogue
from diffjax.data.array import array
from diffjax.data.augment import AUGMENTATIONS
from diffjax.data.clips import clips
from diffjax.data.conformers import conformers
from diffjax.data.demonstrations import demonstrations
from diffjax.data.diamonds import diamonds
from diffjax.data.digits import digits
from diffjax.data.dreambooth import dreambooth
from diffjax.data.emoji import emoji
from diffjax.data.folder import folder
from diffjax.data.form import Form
from diffjax.data.images import to_float, to_uint8
from diffjax.data.joint import joint
from diffjax.data.joint_clips import joint_clips
from diffjax.data.kinds import KINDS, Kind
from diffjax.data.latents import latents
from diffjax.data.lines import lines
from diffjax.data.lorenz96 import lorenz96
from diffjax.data.maps import MAPS
from diffjax.data.meshes import meshes
from diffjax.data.molecules import molecules
from diffjax.data.moving_digits import moving_digits
from diffjax.data.particles import dw4, lj13
from diffjax.data.pipeline import Batches, Reading, centre, read, select
from diffjax.data.relief import relief
from diffjax.data.series import series
from diffjax.data.sounds import sounds
from diffjax.data.source import Captioned, Memory, Source, load
from diffjax.data.table import table
from diffjax.data.tfds import tfds
from diffjax.data.toys import checkerboard, moons
from diffjax.data.webdataset import webdataset
from diffjax.data.winds import winds

SOURCES = catalogue(
    *(tfds, folder, webdataset, dreambooth, array, sounds, table, lines, winds, relief, latents),
    *(meshes, digits, diamonds, emoji, moons, checkerboard, series, joint, lorenz96, dw4, lj13),
    *(demonstrations, molecules, conformers, moving_digits, joint_clips, clips),
)

__all__ = [
    "AUGMENTATIONS",
    "KINDS",
    "MAPS",
    "SOURCES",
    "Batches",
    "Captioned",
    "Form",
    "Kind",
    "Memory",
    "Reading",
    "Source",
    "array",
    "centre",
    "checkerboard",
    "clips",
    "conformers",
    "demonstrations",
    "diamonds",
    "digits",
    "dreambooth",
    "dw4",
    "emoji",
    "folder",
    "joint",
    "joint_clips",
    "latents",
    "lines",
    "lj13",
    "load",
    "lorenz96",
    "meshes",
    "molecules",
    "moons",
    "moving_digits",
    "read",
    "relief",
    "select",
    "series",
    "sounds",
    "table",
    "tfds",
    "to_float",
    "to_uint8",
    "webdataset",
    "winds",
]
