"""Metrics of samples: `(real, samples, **settings) -> result`, one catalogue entry each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.data import Reading, Source, is_image, select
from diffjax.evaluation import metrics
from diffjax.evaluation.judge import Judge, fit


class Samples(NamedTuple):
    """x (N, ...), uint8 if images; label (N,) of the classes asked for, or None."""

    x: np.ndarray
    label: np.ndarray | None


class Real:
    """Real data to compare with, at most so many of a split; features and classifier when asked.

    source: split -> data, read as `reading` says. folder: for what is kept.
    """

    def __init__(self, source: Callable[[str], Source], reading: Reading, most: int, folder: Path):
        self._reading, self._folder = reading, folder
        self.train = select(source("train"), reading, most)
        self.test = select(source("test"), reading, most)
        self.classes = self.train.classes

    @functools.cached_property
    def features(self) -> np.ndarray:
        return features(self.train.x)

    @functools.cached_property
    def held_out(self) -> np.ndarray:
        return features(self.test.x)

    @functools.cached_property
    def judge(self) -> Judge:
        """A classifier of the training data, which knows nothing of the model."""
        return fit(self.train, self._reading.flip, self._folder)


def frechet(real: Real, samples: Samples) -> dict[str, Any]:
    """Frechet distance to the training items in pixel space, beside its floor."""
    return metrics.frechet_with_floor(features(samples.x), real.features)._asdict()


def memorization(real: Real, samples: Samples) -> dict[str, Any]:
    """Distance to the nearest training item, beside that of held-out items."""
    return metrics.memorization(features(samples.x), real.features, real.held_out)._asdict()


def classifier(real: Real, samples: Samples) -> dict[str, Any]:
    """Share of samples that an independent classifier assigns to the class asked for."""
    if not real.classes or samples.label is None:
        raise ValueError("classifier: the samples have no classes; allowed: the other metrics")
    return real.judge.agreement(samples.x, samples.label, real.test)._asdict()


def features(x: np.ndarray) -> np.ndarray:
    """Pixels as (N, D) in [0, 1]; latents (N, D) and points as they are."""
    flat = x.reshape(len(x), -1)
    if not is_image(x.shape[1:]):
        return flat
    flat = flat.astype("float32")
    return flat / 255 if x.dtype == "uint8" else (flat + 1) / 2
