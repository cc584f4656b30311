"""Images that commands restore and edit, and masks, read from files or from held-out items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.pipeline import centred
from diffjax.files import ending, read_arrays
from diffjax.runs.starts import stored
from diffjax.training.experiment import Experiment

HELD_OUT = "test:"
"""Prefix of the numbers of held-out items, as in test:3,17."""


def images(experiment: Experiment, image: Any, flag: str = "--image") -> Float[np.ndarray, "k *d"]:
    """Return items as the network sees them, (K, *shape).

    image: an array of stored items, the path of a file or of a folder, or `test:INDEX,...`, items
    of the test split of the run's data. flag: for messages. Raises ConfigError for items of another
    form.
    """
    form = experiment.form
    if isinstance(image, str | Path) and str(image).startswith(HELD_OUT):
        x = _held_out(experiment, str(image), flag)
    else:
        x = stored(image, form, flag)
    return np.asarray(form.items.normalise(x), np.float32)


def _held_out(experiment: Experiment, text: str, flag: str) -> np.ndarray:
    listed = text.removeprefix(HELD_OUT).split(",")
    if not all(number.isdecimal() and len(number) < 19 for number in listed):
        raise ConfigError(f"{flag}={text}: needs test:INDEX,..., as test:0,17")
    source = builder.refuse(f"{flag}={text}")(experiment.source)("test")
    index = np.array([int(number) for number in listed])
    if (bad := index[index >= len(source)]).size:
        raise ConfigError(
            f"{flag}={text}: no item {bad[0]} in the test split; known: 0 to {len(source) - 1}"
        )
    cut = centred(source[index], experiment.reading, source.form)
    return stored(cut["x"], experiment.form, flag)


def read_mask(file: str, shape: tuple[int, ...]) -> Float[np.ndarray, "one h w c"]:
    """Return the mask in a file, numbers in [0, 1] that broadcast against an image: (1, H, W, 1).

    file: a grey picture, black for 0 and white for 1, or an .npy or .npz file of numbers (H, W) or
    (H, W, 1 or C). shape: that of the image, (H, W, C). Raises ValueError for a mask of another
    size or with other numbers.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{file}: no such file")
    if ending(path) in (".npy", ".npz"):
        (mask, *others) = read_arrays(path).values()
        if others:
            raise ValueError(f"{file}: holds {1 + len(others)} arrays; needs one")
        mask = np.asarray(mask, np.float64)
    else:
        mask = _grey(path) / 255
    mask = mask[..., None] if mask.ndim == 2 else mask
    if mask.shape not in ((*shape[:2], 1), shape):
        raise ValueError(f"{file}: is a mask of {mask.shape[:2]}; needs {shape[:2]}, as the image")
    if not ((mask >= 0) & (mask <= 1)).all():
        value = mask[~((mask >= 0) & (mask <= 1))][0]
        raise ValueError(f"{file}: holds {value:g}; needs numbers in [0, 1]")
    return mask[None].astype(np.float32)


def _grey(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"), np.float64)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: is no picture that can be read ({type(error).__name__})"
        ) from error
