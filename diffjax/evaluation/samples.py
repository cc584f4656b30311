"""Samples, and the real data that they are compared with, as metrics see them."""

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
from diffjax.devices.processes import first
from diffjax.features.extractors import Extractor, extract, pixels
from diffjax.features.judge import Judge, fit
from diffjax.files import read_arrays, write_arrays

Arrays = dict[str, np.ndarray]
GIVEN = {"logits": "classifier, inception", "spatial": "inception", "captions": "clip_l14"}
"""What some extractors give beside `pool`, and which do."""


class Samples(NamedTuple):
    """x (N, ...), uint8 if images; label (N,) of the classes asked for, or None."""

    x: np.ndarray
    label: np.ndarray | None


class Real:
    """Real data to compare with, at most so many of a split; features and classifier when asked.

    source: split -> data, read as `reading` says. extractor: of the features that metrics compare.
    folder: for what is kept.
    """

    def __init__(
        self,
        source: Callable[[str], Source],
        reading: Reading,
        most: int,
        folder: Path,
        extractor: Callable[[Any], Extractor] = pixels,
    ):
        source("train").form.refuse_lengths("metrics")
        self._reading, self.folder, self._chosen = reading, folder, extractor
        self.train = select(source("train"), reading, most)
        self.test = select(source("test"), reading, most)
        self.classes = self.train.form.classes
        self._last: tuple[Samples | None, Arrays] = (None, {})

    @functools.cached_property
    def extractor(self) -> Extractor:
        return self._chosen(self)

    @functools.cached_property
    def extracted(self) -> Arrays:
        """All that the extractor gives of the training items."""
        return self._kept(self.train)

    @property
    def features(self) -> np.ndarray:
        """Of the training items, (N, D)."""
        return self.extracted["pool"]

    @functools.cached_property
    def held_out(self) -> np.ndarray:
        return self._kept(self.test)["pool"]

    def _kept(self, items: Memory) -> Arrays:
        """What the extractor gives of real items; that of a network is kept in the folder."""
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
        """All that the extractor gives of the samples, once for all metrics."""
        if self._last[0] is not samples:
            self._last = samples, extract(self.extractor, samples.x)
        return self._last[1]

    def need(self, samples: Samples, kind: str) -> np.ndarray:
        """Features of one kind of the samples. ValueError where the extractor does not give it."""
        arrays = self.of(samples)
        if kind not in arrays:
            raise ValueError(lacks(self.extractor.name, kind))
        return arrays[kind]

    @functools.cached_property
    def judge(self) -> Judge:
        """A classifier of the training data, which knows nothing of the model."""
        return fit(self.train, self._reading.flip, self.folder)

    def facts(self, items: Memory) -> dict[str, Any]:
        """What statistics must have in common with those of `items`, and which these are."""
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
    """What to say of an extractor that does not give this kind of features."""
    return f"features={name}: gives no {kind}; those that do: {GIVEN[kind]}"


def digest(items: Memory) -> str:
    """First 12 hex digits of the SHA-256 of all items, and of their shape."""
    sha = hashlib.sha256(repr((items.x.shape, str(items.dtype))).encode())
    sha.update(np.ascontiguousarray(items.x).tobytes())
    return sha.hexdigest()[:12]
