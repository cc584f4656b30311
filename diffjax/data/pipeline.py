"""The input pipeline: batch k is a function of (seed, k), whatever was read before it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from diffjax.data.augment import Affine
from diffjax.data.images import dequantized, to_float
from diffjax.data.source import Memory, Source, load


@dataclass(frozen=True)
class Reading:
    """How a run reads its source.

    labels: give them to the network. flip: mirror each image with chance 1/2. crop: side of the
    window cut from each image, at random in training and at the centre else; 0 keeps it whole.
    balanced: each class equally often, however many items it has. dequantize: add uniform noise of
    one grey level, for densities. augment: change images and tell the network how, which is then
    built for it. memory: GB up to which a data set is decoded once and kept. workers: reading
    threads. timeout: seconds without a batch after which a run saves and stops, 0 for never.
    """

    labels: bool = False
    flip: bool = False
    crop: int = 0
    balanced: bool = False
    dequantize: bool = False
    augment: Affine | None = None
    memory: float = 4.0
    workers: int = 1
    timeout: float = 600.0

    def __post_init__(self):
        if self.crop < 0:
            raise ValueError(f"crop={self.crop}: needs crop >= 0; 0 keeps images whole")
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: needs workers >= 1")
        if self.timeout < 0:
            raise ValueError(f"timeout={self.timeout:g}: needs timeout >= 0; 0 waits for ever")

    def check(self, source: Source) -> None:
        """Raise ValueError for what `source` does not allow."""
        if self.labels and not source.classes:
            raise ValueError("labels=True: this data set has no labels; allowed: False")
        if (self.flip or self.crop) and len(source.shape) != 3:
            raise ValueError(f"flip and crop: need images; the items have shape {source.shape}")
        if self.crop and self.crop > min(source.shape[:2]):
            raise ValueError(f"crop={self.crop}: larger than the images {source.shape}")
        if self.balanced and not source.classes:
            raise ValueError("balanced=True: this data set has no labels; allowed: False")
        if self.dequantize and source.dtype != np.uint8:
            raise ValueError(f"dequantize=True: needs uint8 images; the items are {source.dtype}")
        if self.augment:
            self.augment.check(self.shape(source))

    def shape(self, source: Source) -> tuple[int, ...]:
        """Of one item, after cropping."""
        return (self.crop, self.crop, source.shape[-1]) if self.crop else source.shape

    def on_device(self, key: Key[Array, ""], batch: dict[str, Any]) -> dict[str, Any]:
        """What the device makes of a batch: floats in [-1, 1] (half a grey level more where they
        are dequantized), changed images, and as batch["kept"] what the network is told of it."""
        key_noise, key_change = jax.random.split(key)
        raw = batch["x"]
        x = dequantized(raw, key_noise) if self.dequantize else to_float(raw)
        if not self.augment:
            return {**batch, "x": x}
        x, told = self.augment(key_change, x)
        return {**batch, "x": x, "kept": {"augment": told} if self.augment.labels else {}}


def _order(size: int, seed: int, epoch: int, part: int = 0) -> np.ndarray:
    """The order of an epoch of all items, or of a part of them."""
    key = [seed + (part << 33), epoch]
    return np.random.Generator(np.random.Philox(key=key)).permutation(size)


_permutation = functools.lru_cache(maxsize=4)(_order)
_class_permutation = functools.lru_cache(maxsize=32)(_order)


@dataclass(frozen=True)
class Batches:
    """Batch k of an endless sequence of epochs, each in an order of its own.

    Every item comes exactly once per epoch; a batch may straddle two epochs, so any batch size
    suits any number of items. Balanced: every class comes once per round, in an order of its own,
    and every item once per epoch of its class. Flips and crops of batch k are functions of
    (seed, k) as well. rows: of each batch, those that are read, all by default: what one of several
    processes needs.
    """

    source: Source
    batch_size: int
    seed: int
    reading: Reading = field(default_factory=Reading)
    rows: Any = ...

    def __len__(self) -> int:
        return 2**62 // self.batch_size

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        place = int(index) * self.batch_size + np.arange(self.batch_size)[self.rows]
        items = self.source[self._balanced(place) if self.reading.balanced else self._each(place)]
        rng = np.random.Generator(np.random.Philox(key=[2**32 + self.seed, int(index)]))
        changed = flip_and_crop(items["x"], self.reading, rng, self.batch_size, self.rows)
        return {**items, "x": changed}

    def _each(self, place: np.ndarray) -> np.ndarray:
        """The items at these places of the sequence of epochs."""
        size = len(self.source)
        epoch, item = np.divmod(place, size)
        parts = [_permutation(size, self.seed, int(e))[item[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(parts)

    def _balanced(self, place: np.ndarray) -> np.ndarray:
        """The items at these places of the sequence of rounds."""
        turn, slot = np.divmod(place, len(self._members))
        orders = {t: _order(len(self._members), self.seed, t, 1) for t in set(turn.tolist())}
        found = []
        for t, s in zip(turn.tolist(), slot.tolist(), strict=True):
            kind = int(orders[t][s])
            members = self._members[kind]
            epoch, item = divmod(t, len(members))
            order = _class_permutation(len(members), self.seed, epoch, 2 + kind)
            found.append(members[order[item]])
        return np.array(found)

    @functools.cached_property
    def _members(self) -> list[np.ndarray]:
        """The items of each class that has any."""
        label = self.source.labels()
        return [np.flatnonzero(label == kind) for kind in np.unique(label)]


def flip_and_crop(
    x: np.ndarray, reading: Reading, rng: np.random.Generator, size: int, rows: Any
) -> np.ndarray:
    """Random windows and mirrored images of the `rows` x (b, H, W, C) of a batch of `size`."""
    if reading.crop:
        most = np.array(x.shape[1:3]) - reading.crop
        x = window(x, rng.integers(0, most + 1, (size, 2))[rows], reading.crop)
    if reading.flip:
        chosen = rng.random(size)[rows] < 0.5
        x[chosen] = x[chosen, :, ::-1]
    return x


def window(x: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """side x side pixels of each image from its `corner` (B, 2) on."""
    views = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    return np.moveaxis(views[np.arange(len(x)), corner[:, 0], corner[:, 1]], 1, -1).copy()


def centre(x: np.ndarray, side: int) -> np.ndarray:
    """The middle side x side pixels of images (B, H, W, C); as they are where `side` is 0."""
    if not side:
        return x
    top, left = (np.array(x.shape[1:3]) - side) // 2
    return x[:, top : top + side, left : left + side]


def select(source: Source, reading: Reading, most: int) -> Memory:
    """At most that many items, spread evenly over `source`, cropped at the centre."""
    many = len(source) > most
    index = np.linspace(0, len(source) - 1, most).astype(int) if many else np.arange(len(source))
    items = load(source, index)
    return replace(items, x=centre(items.x, reading.crop))


def read(
    batches: Batches, start: int, stop: int, per_item: int = 1, workers: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Batches start, ..., stop - 1 in stacks of `per_item`, read ahead by threads.

    The order is the same for any number of `workers`; at most as many stacks wait, and two.
    """
    import grain

    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=workers + 1)
    stacks = grain.MapDataset.source(batches).slice(slice(start, stop)).batch(per_item)
    return iter(stacks.to_iter_dataset(options))
