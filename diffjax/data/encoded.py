"""Latents that `tools.encode` has written: moments of a codec, of which each reading draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.conditions import NAMED, PREFIX
from diffjax.data.form import Form, from_json
from diffjax.data.source import SPLITS, NoSplit
from diffjax.files import read_arrays, reason

ABOUT, UNFINISHED, MOMENTS = "encoded.json", "encoding.json", "moments.npy"
"""The files that describe finished and unfinished latents, and the array of a split."""
CAPTIONS = "captions.jsonl"
"""The file of a split whose images have captions: a list of texts in each line."""
DRAWS, FIXED = 1 << 62, 1 << 61
"""Streams of the noise of training, to which the seed is added, and of other readings."""


def noise(stream: int, number: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal noise (B, *shape): that of `number` (B,) in a stream.

    >>> noise(DRAWS, np.array([5, 17]), (2, 2, 4)).shape
    (2, 2, 2, 4)
    """
    eps = np.empty((len(number), *shape), np.float32)
    for row, k in zip(eps, number.tolist(), strict=True):
        np.random.Generator(np.random.Philox(key=[stream, k])).standard_normal(out=row, dtype="f4")
    return eps


@dataclass(frozen=True)
class Encoded:
    """Normal distributions of latents, one for each item of a data set.

    moments: (N, h, w, 2 C), mean and standard deviation, a memory map of float16. arrays: the
    conditions by name, (N, ...), also memory maps. texts: the captions of each image, or empty
    without any; latents of mirrored images, which come behind all images, share them. Indexing
    reads z = mean + std * eps with noise that depends on the index alone; `draw` reads another z in
    each epoch.
    """

    moments: np.ndarray
    form: Form
    arrays: Mapping[str, np.ndarray]
    texts: Sequence[Sequence[str]] = ()

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._items(index, noise(FIXED, np.asarray(index), self.form.shape))

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,), with the noise of these numbers (B,) of the seed.

        In training, the number is the place of an item in the sequence of all epochs, so that
        every epoch draws anew, and batch k is a function of (seed, k).
        """
        return self._items(index, noise(DRAWS + seed, number, self.form.shape))

    def kept(self) -> Encoded:
        """Return the source itself, whose memory maps the system keeps in memory."""
        return self

    def _items(self, index: np.ndarray, eps: np.ndarray) -> dict[str, np.ndarray]:
        mean, std = np.split(np.asarray(self.moments[index], np.float32), 2, axis=-1)
        return {"x": mean + std * eps, **{k: np.asarray(v[index]) for k, v in self.arrays.items()}}

    def labels(self) -> np.ndarray:
        label = self.arrays.get("label")
        return np.zeros(len(self), np.int32) if label is None else np.asarray(label)

    def captions(self, index: np.ndarray) -> list[list[str]]:
        """Return the captions of the items at `index` (B,), the preferred caption first."""
        count = len(self.texts)
        return [[*self.texts[int(i) % count]] if count else [] for i in index]


def about(path: Path) -> dict[str, Any] | None:
    """Return the description of encoded latents in a folder, None where there is none.

    Its entries: `data`, the section of the images; `codec`, `fingerprint` among its entries;
    `form`, that of the latents; `flips`; and `items`, the number of rows by split. Raises
    ValueError for a file that cannot be read, and for latents whose encoding is not complete.
    """
    file = path / ABOUT
    try:
        described = json.loads(file.read_text())
        if not isinstance(described, dict) or not isinstance(described.get("data"), dict):
            raise ValueError("needs an object with `data`")
        return described
    except FileNotFoundError:
        if (path / UNFINISHED).is_file():
            raise ValueError(
                f"{path}: the encoding is not complete; repeat the command of tools.encode"
            ) from None
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({reason(error)})") from error


def encoded(split: str, path: Path, described: Mapping[str, Any]) -> Encoded:
    """Open a split of encoded latents; `described` is the result of `about`.

    Raises ValueError for files that are missing, damaged or of another shape than described, and
    NoSplit for a split that the images did not have.
    """
    if split not in described.get("items", {}):
        known = ", ".join(s for s in SPLITS if s in described.get("items", {}))
        raise NoSplit(f"split={split!r}: {path} has none; known: {known}")
    form, num = form_of(path, described), described["items"][split]
    moments = opened(path / split / MOMENTS, (num, *form.shape[:-1], 2 * form.shape[-1]))
    arrays = {k: opened(path / split / file_of(k), (num,)) for k in form.names}
    return Encoded(moments, form, arrays, captions(path / split / CAPTIONS, num))


def captions(file: Path, num: int) -> list[list[str]]:
    """Read the captions of `num` latents, [] where there is no file.

    Raises ValueError for a file that cannot be read, or has lines for other images.
    """
    if not file.is_file():
        return []
    try:
        texts = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({reason(error)})") from error
    if not texts or num % len(texts):
        raise ValueError(f"{file}: has {len(texts)} lines for {num} latents")
    return texts


def file_of(name: str) -> str:
    """Return the name of the file of a condition, or of the moments.

    >>> file_of("label"), file_of("vector"), file_of("caption")
    ('labels.npy', 'vector.npy', 'cond_caption.npy')
    """
    if name == MOMENTS:
        return name
    return {"label": "labels.npy"}.get(name, f"{'' if name in NAMED else PREFIX}{name}.npy")


def form_of(path: Path, described: Mapping[str, Any]) -> Form:
    """Return the form of encoded latents; raise ValueError for a description without one."""
    try:
        return from_json(described["form"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"{type(error).__name__}: {reason(error)}"
        raise ValueError(f"{path / ABOUT}: form: cannot be read ({text})") from error


def opened(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Open an .npy file as a memory map; raise ValueError where its shape begins otherwise."""
    try:
        x = read_arrays(file, map_file=True)["x"]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{file}: {reason(error)}") from error
    if x.shape[: len(shape)] != shape:
        raise ValueError(f"{file}: has the shape {x.shape}; needs {shape}, as {ABOUT} states")
    return x
