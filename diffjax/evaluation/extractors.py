"""Feature networks: what metrics see of an item. One catalogue entry each."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from diffjax.arrays import Params, catalogue
from diffjax.data import Memory, is_image
from diffjax.evaluation.judge import BATCH, Judge, outputs
from diffjax.progress import Progress
from diffjax.training.mesh import layout

Arrays = dict[str, np.ndarray]


class Known(Protocol):
    """What an extractor may ask of the real data."""

    train: Memory
    classes: int
    judge: Judge


@dataclass(frozen=True)
class Extractor:
    """Features of items, and what a result says of them.

    fingerprint: first 12 hex digits of the SHA-256 of the weights, "" where there are none. about:
    which weights these are, and where from. run: a batch (B, ...) as stored, B a multiple of the
    number of devices, to `pool` (B, D), and where the network has them `logits` (B, K) and
    `spatial` (B, S).
    """

    name: str
    fingerprint: str
    about: str
    run: Callable[[np.ndarray], Arrays]


def extract(extractor: Extractor, x: np.ndarray, batch_size: int = 64) -> Arrays:
    """Features of all items of x (N, ...), by name, in their order.

    The last batch is filled up, so that one program serves all; it is split over all devices.
    """
    if not len(x):
        raise ValueError(f"{extractor.name}: features of no items; needs at least 1")
    devices = layout().size
    size = -(-min(batch_size, len(x)) // devices) * devices
    parts = []
    with Progress(f"features {extractor.name}", len(x), "item") as progress:
        for start in range(0, len(x), size):
            part = x[start : start + size]
            filled = part if len(part) == size else np.resize(part, (size, *part.shape[1:]))
            parts.append({k: v[: len(part)] for k, v in extractor.run(filled).items()})
            progress.advance(len(part))
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}


def pixels(real: Known) -> Extractor:
    """The values themselves: no network, so distances see no more than colours in places."""
    return Extractor("pixels", "", "values of pixels in [0, 1], no network", _values)


def _values(x: np.ndarray) -> Arrays:
    return {"pool": features(x)}


def features(x: np.ndarray) -> np.ndarray:
    """Pixels as (N, D) in [0, 1]; latents (N, D) and points as they are."""
    flat = x.reshape(len(x), -1)
    if not is_image(x.shape[1:]):
        return flat
    flat = flat.astype("float32")
    return flat / 255 if x.dtype == "uint8" else (flat + 1) / 2


def classifier(real: Known) -> Extractor:
    """The small classifier of the training items, fitted to them here: it needs no download.

    Its distances compare results on these items only. ValueError where the items have no classes.
    """
    if not real.classes:
        raise ValueError("features=classifier: the data has no classes; allowed: the other ones")
    judge = real.judge
    about = (
        f"nets.classifier fitted to these training items, {judge.steps} steps of {BATCH}: its "
        f"numbers compare with others of the same items only, not with published ones"
    )
    apply = functools.partial(outputs, classes=real.classes)
    return network("classifier", judge.params, apply, about)


def network(
    name: str, params: Params, apply: Callable[[Params, Any], Mapping[str, Any]], about: str
) -> Extractor:
    """The extractor of `apply(params, x) -> features`, compiled, with batches over all devices."""
    devices = layout()
    here, compiled = devices.put(params), jax.jit(apply)
    run = lambda x: dict(devices.whole(compiled(here, devices.put(x, 0))))
    return Extractor(name, fingerprint(params), about, run)


def fingerprint(params: Params) -> str:
    """First 12 hex digits of the SHA-256 of all arrays, with their places."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        found.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:12]


EXTRACTORS = catalogue(pixels, classifier)
