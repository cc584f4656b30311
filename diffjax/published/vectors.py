"""Files of learned vectors of words, which textual inversion trains (arXiv:2208.01618).

diffusers stores a vector under the word itself, kohya and others as `emb_params` in a file that has
the word as its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffjax.io.reading import Tensors, read, write
from diffjax.published.adapters import PARTS

PARAMS, TABLE = "emb_params", "table"
"""The name of vectors in files that are named by their word, and a field of our metadata."""
Vectors = dict[str, np.ndarray]
"""Vectors (width,) by word, or by class."""


def opened(path: Path) -> Vectors:
    """Return the vectors in a file by word, {} for a file of anything else.

    Raises ValueError for a file that cannot be read, and for words with several vectors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save(Path(folder), "kohya", {"sketch": np.ones(4)})[0]
    ...     file.name, opened(file)
    ('sketch.safetensors', {'sketch': array([1., 1., 1., 1.], dtype=float32)})
    """
    tensors = read(path).tensors
    states = isinstance(tensors, Tensors) and TABLE in tensors.metadata
    names = [name for name in tensors if not name.endswith(tuple(PARTS))]
    if PARAMS in tensors:
        found = {path.stem: tensors[PARAMS]}
    elif states or (len(tensors) == len(names) == 1 and np.ndim(tensors[names[0]]) < 3):
        found = dict(tensors)
    else:
        return {}
    for word, vector in found.items():
        if np.ndim(vector) > 1 and len(vector) != 1:
            raise ValueError(f"{path}: {word!r} has {len(vector)} vectors; needs one")
    return {word: np.asarray(v, np.float32).reshape(-1) for word, v in found.items()}


def save(folder: Path, form: str, vectors: Mapping[str, np.ndarray], table: str = "") -> list[Path]:
    """Write vectors by word to a folder, and return the paths of the files.

    form: diffusers for one file of all words, kohya for one file per word. table: the path of their
    table in a network of ours. Raises ValueError for another form.
    """
    values = {word: np.asarray(v, np.float32) for word, v in vectors.items()}
    about = {"format": "pt"}
    if form == "diffusers":
        files = {"learned_embeds.safetensors": (values, about | {TABLE: table})}
    elif form == "kohya":
        files = {f"{word}.safetensors": ({PARAMS: v[None]}, about) for word, v in values.items()}
    else:
        raise ValueError(f"{form}: has no format of words; allowed: diffusers, kohya")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (tensors, metadata) in files.items():
        write(folder / name, tensors, metadata)
    return [folder / name for name in files]
