"""Samples and real data as metrics receive them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.data import Memory, Reading, Source, select
from diffjax.data.source import Simulated
from diffjax.devices.processes import first
from diffjax.features.extractors import Extractor, extract, pixels
from diffjax.features.judge import Judge, fit
from diffjax.files import read_arrays, write_arrays

Arrays = dict[str, np.ndarray]
GIVEN = {"logits": "classifier, inception", "spatial": "inception", "captions": "clip_l14"}
"""The kinds of features besides `pool`, and the extractors that have them."""


class Samples(NamedTuple):
    """Samples x (N, ...), uint8 for images, with the labels (N,) they were sampled for, or None.

    asked: the indices (N,) of the held-out items whose conditions the samples had, or None.

    >>> samples = Samples(x=np.zeros((8, 2), np.float32), label=None)
    >>> samples.x.shape
    (8, 2)
    """

    x: np.ndarray
    label: np.ndarray | None
    asked: np.ndarray | None = None


class Real:
    """Real data to compare samples with; features and a classifier are computed on first use.

    source: split -> data, read by `reading`. most: the largest number of items per split.
    extractor: the extractor of the features that metrics compare. folder: where features of real
    items and the classifier are saved. law: the test split, where it knows the law of its items,
    None elsewhere.

    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), Reading(), most=20, folder=Path())
    >>> real.features.shape, real.extractor.name, real.classes
    ((20, 2), 'pixels', 2)
    """

    def __init__(
        self,
        source: Callable[[str], Source],
        reading: Reading,
        most: int,
        folder: Path,
        extractor: Callable[[Any], Extractor] = pixels,
    ):
        self._reading, self._folder, self._chosen = reading, folder, extractor
        self.train = select(source("train"), reading, most)
        self.test = select(source("test"), reading, most)
        self.law = known if isinstance(known := source("test"), Simulated) else None
        self.classes = self.train.form.classes
        self._last: tuple[Samples | None, Arrays] = (None, {})

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of what is saved, which the first use creates."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    @functools.cached_property
    def extractor(self) -> Extractor:
        return self._chosen(self)

    @functools.cached_property
    def extracted(self) -> Arrays:
        """All features of the training items, by kind."""
        return self._kept(self.train)

    @property
    def features(self) -> np.ndarray:
        """The features of the training items, (N, D)."""
        return self.extracted["pool"]

    @functools.cached_property
    def held_out(self) -> np.ndarray:
        return self._kept(self.test)["pool"]

    def _kept(self, items: Memory) -> Arrays:
        """Return all features of real items; those of a network are saved in the folder.

        Raises ValueError where values of items are missing.
        """
        items.form.refuse_gaps("metrics")
        seen, facts = self.extractor, json.dumps(self.facts(items)).encode()
        if not seen.fingerprint:
            return extract(seen, items.x)
        sha = hashlib.sha256(facts).hexdigest()[:12]
        path = self.folder / f"features-{seen.name}-{sha}.npz"
        if path.exists():
            with contextlib.suppress(ValueError):  # a damaged one is made again
                return read_arrays(path)
        arrays = extract(seen, items.x)
        if first():
            write_arrays(path, arrays)
        return arrays

    def of(self, samples: Samples) -> Arrays:
        """Return all features of the samples, computed once for all metrics."""
        if self._last[0] is not samples:
            self._last = samples, extract(self.extractor, samples.x)
        return self._last[1]

    def need(self, samples: Samples, kind: str) -> np.ndarray:
        """Return one kind of features of the samples; raise ValueError where it does not exist."""
        arrays = self.of(samples)
        if kind not in arrays:
            raise ValueError(lacks(self.extractor.name, kind))
        return arrays[kind]

    @functools.cached_property
    def judge(self) -> Judge:
        """A classifier of the training data, independent of the model."""
        return fit(self.train, self._reading.flip, self.folder)

    def facts(self, items: Memory) -> dict[str, Any]:
        """Return the facts that comparable statistics must share, and which items these are of."""
        return {
            "extractor": self.extractor.name,
            "fingerprint": self.extractor.fingerprint,
            "about": self.extractor.about,
            "shape": list(items.shape),
            "range": "0 to 255" if items.form.dtype == "uint8" else "floats",
            "items": len(items),
            "data": digest(items),
        }


def lacks(name: str, kind: str) -> str:
    """Return the error message for an extractor without this kind of features."""
    return f"features={name}: provides no {kind}; features with {kind}: {GIVEN[kind]}"


def digest(items: Memory) -> str:
    """Return the first 12 hex digits of the SHA-256 of all items and their shape."""
    sha = hashlib.sha256(repr((items.x.shape, str(items.dtype))).encode())
    sha.update(np.ascontiguousarray(items.x).tobytes())
    return sha.hexdigest()[:12]


def compared(real: Real, name: str) -> dict[str, Any]:
    """Return the entries of the protocol on the real data and the features."""
    seen, splits = real.extractor, {"train": real.train, "test": real.test}
    items = {split: {"items": len(of), "sha256": digest(of)} for split, of in splits.items()}
    features = {"name": seen.name, "fingerprint": seen.fingerprint, "about": seen.about}
    return {"features": features, "reference": {"data": name} | items}
