"""The input pipeline, in which batch k is a function of (seed, k) alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax.arrays import within_length
from diffjax.data.augment import Affine
from diffjax.data.conditions import WEIGHT
from diffjax.data.enlarged import Enlarged, Reduced
from diffjax.data.form import ABSENT, KNOWN, Form
from diffjax.data.hidden import Hidden
from diffjax.data.images import dequantized
from diffjax.data.kinds import Kind, lookup
from diffjax.data.source import Drawn, Memory, Source, load


@dataclass(frozen=True)
class Reading:
    """Settings with which a run reads its source.

    labels: condition the network on the labels. conditions: the names of the other conditions that
    the network receives. flip: mirror each image with probability 1/2. crop: the side of the window
    cut from each item, at random in training and at the centre otherwise; 0 keeps the whole item.
    balanced: draw each class equally often, however many items it has. dequantize: add uniform
    noise of one grey level, for densities. augment: change images at random, and build the network
    with the changes as a condition. memory: the size in GB up to which a data set is decoded once
    and kept in memory. workers: the number of reading threads. timeout: the seconds without a batch
    after which a run saves and exits, 0 for never. codec: the autoencoder of which the items are
    latents, by which samples become images (`builder.construct_codec`); no step reads it. encoder:
    an entry of `encoders.ENCODERS`, as `name:argument=value`, that makes conditions of captions.
    encoded: the folder where `tools.encode --encoder` has written these conditions of all captions,
    so that training does not run the encoder. vocabulary: a run with whose words the vocabulary of
    the encoder begins, so that a run that begins with its weights knows them as the same words; new
    ones follow. maps: entries of `maps.MAPS`, as `name:argument=value`, that make conditions of
    images. excitation: replace sounds by their excitations under the map `mel`
    (`data.excitation`). reduced: make items smaller, for the first network of a cascade. enlarged:
    add a smaller version of each item as a condition, for super-resolution. hidden: add the item
    with a part hidden as the condition `known`, for imputation. kind: the kind of the items, which
    the source declares and a config does not set.

    Raises ValueError for a setting out of range.

    >>> from diffjax import data
    >>> Reading(labels=True).form(data.moons("train", size=10)).names
    ['label']
    """

    labels: bool = False
    conditions: tuple[str, ...] = ()
    flip: bool = False
    crop: int = 0
    balanced: bool = False
    dequantize: bool = False
    augment: Affine | None = None
    memory: float = 4.0
    workers: int = 1
    timeout: float = 600.0
    codec: str = ""
    encoder: str = ""
    encoded: str = ""
    vocabulary: str = ""
    reduced: Reduced | None = None
    enlarged: Enlarged | None = None
    hidden: Hidden | None = None
    maps: tuple[str, ...] = ()
    excitation: bool = False
    kind: str = field(default="image", metadata={"declared": True})

    def __post_init__(self):
        if self.crop < 0:
            raise ValueError(f"crop={self.crop}: needs crop >= 0; 0 keeps images whole")
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: needs workers >= 1")
        if not self.memory >= 0:
            raise ValueError(f"memory={self.memory:g}: needs memory >= 0, in GB")
        if not self.timeout >= 0:
            raise ValueError(f"timeout={self.timeout:g}: needs timeout >= 0; 0 waits forever")
        for name in ("crop", "reduced", "enlarged", "hidden"):
            if self.excitation and getattr(self, name):
                raise ValueError(
                    f"{name}={getattr(self, name)}: excitations are of whole sounds; allowed: "
                    f"excitation=False, or no {name}"
                )

    def check(self, source: Source) -> None:
        """Raise ValueError for settings that `source` does not support."""
        form, kind, own = source.form, source.form.items, ("length", WEIGHT)
        if self.labels and not form.classes:
            raise ValueError("labels=True: this data set has no labels; allowed: False")
        if not self.hidden:
            form.refuse_gaps("data.hidden={} trains on whole items, not to impute")
        mine = ("label", *(self.enlarged.names if self.enlarged else ()), KNOWN, ABSENT)
        others = [s.name for s in form.conditions if s.name not in mine and s.kind not in own]
        if absent := [name for name in self.conditions if name not in others]:
            have = ", ".join(others) or "none"
            raise ValueError(
                f"conditions={absent[0]}: this data set has no such condition; known: {have}"
            )
        if self.crop and form.ends:
            raise ValueError(
                f"crop={self.crop}: {kind.noun}s with lengths cannot be cropped; allowed: 0"
            )
        if self.flip and (kind.mirror is None or len(form.shape) < -kind.mirror):
            raise ValueError(
                f"flip=True: {kind.noun}s {form.shape} cannot be flipped; needs images"
            )
        if self.crop and (not kind.window or len(form.shape) < -min(kind.window)):
            raise ValueError(
                f"crop={self.crop}: {kind.noun}s {form.shape} cannot be cropped; needs images"
            )
        if self.crop and self.crop > min(form.shape[axis] for axis in kind.window):
            raise ValueError(f"crop={self.crop}: is larger than the {kind.noun}s {form.shape}")
        if self.balanced and not form.classes:
            raise ValueError("balanced=True: this data set has no labels; allowed: False")
        if self.dequantize and form.dtype != "uint8":
            raise ValueError(f"dequantize=True: needs uint8 images; the items are {form.dtype}")
        if self.augment:
            self.augment.check(self.form(source))

    def form(self, source: Source) -> Form:
        """Return the form of the items as the network receives them.

        They are cropped and have the selected conditions; lengths, encoded captions and maps of
        images are always kept.
        """
        form = source.form
        maps = [text.partition(":")[0] for text in self.maps]
        names = (*(["label"] if self.labels else []), *self.conditions, *form.texts, *maps)
        names = (*names, *(self.enlarged.names if self.enlarged else ()))
        names = (*names, *([KNOWN, ABSENT] if self.hidden else []))
        asked = lambda spec: spec.name in names or spec.kind == "length"
        conditions = tuple(filter(asked, form.conditions))
        shape = list(form.shape)
        for axis in form.items.window if self.crop else ():
            shape[axis] = self.crop
        class_names = form.class_names if "label" in names else ()
        return replace(form, shape=tuple(shape), conditions=conditions, class_names=class_names)

    def shape(self, source: Source) -> tuple[int, ...]:
        """Return the shape of one item after cropping."""
        return self.form(source).shape

    def for_source(self, source: Source) -> Reading:
        """Return these settings for items of the kind that the source declares."""
        return replace(self, kind=source.form.kind)

    def on_device(self, key: Key[Array, ""], batch: dict[str, Any]) -> dict[str, Any]:
        """Convert a batch on the device to what the loss receives.

        x becomes floats in [-1, 1], up to half a grey level beyond where it is dequantized, and is
        augmented; batch["kept"] holds the labels of the augmentation. Padding and what is known are
        treated as in `masked`.
        """
        key_noise, key_change = jax.random.split(key)
        raw = batch["x"]
        x = dequantized(raw, key_noise) if self.dequantize else lookup(self.kind).normalise(raw)
        if not self.augment:
            return masked({**batch, "x": x})
        x, labels = self.augment(key_change, x)
        return {**batch, "x": x, "kept": {"augment": labels} if self.augment.labels else {}}


def masked(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch with 0 where x has no value, and with its `mask`, 1 for values that count.

    With the condition `length`, x (B, L, ...) has no value in the padding, and all others count,
    (B, L, 1, ...). With the condition `known`, x has none in its gaps, where it is NaN; values
    count that are there and not known; and the condition `absent` then states the gaps and is never
    dropped. Any other batch is returned unchanged.
    """
    x, cond = batch["x"], batch.get("cond", {})
    if KNOWN in cond:
        gap = jnp.isnan(x)
        counts = jnp.isnan(cond[KNOWN]) & ~gap
        batch = {**batch, "x": jnp.where(gap, 0, x), "mask": counts.astype(x.dtype)}
        if ABSENT not in cond:
            return batch
        kept = {**batch.get("kept", {}), ABSENT: jnp.where(gap, 1.0, jnp.nan).astype(x.dtype)}
        return {**batch, "cond": {k: v for k, v in cond.items() if k != ABSENT}, "kept": kept}
    length = cond.get("length")
    if length is None or not jnp.issubdtype(length.dtype, jnp.unsignedinteger):
        return batch
    inside = within_length(length, x.shape[1], x.ndim)
    return {**batch, "x": jnp.where(inside, x, 0), "mask": inside.astype(x.dtype)}


def _order(size: int, seed: int, epoch: int, part: int = 0) -> np.ndarray:
    """Return the order (size,) of the items in an epoch.

    part: 0 for all items; other numbers give independent orders for parts of the data.
    """
    key = [seed + (part << 33), epoch]
    return np.random.Generator(np.random.Philox(key=key)).permutation(size)


_permutation = functools.lru_cache(maxsize=4)(_order)
_class_permutation = functools.lru_cache(maxsize=32)(_order)


@dataclass(frozen=True)
class Batches:
    """The batches of an endless sequence of epochs, by index; each epoch has its own order.

    Every item occurs exactly once per epoch. A batch may straddle two epochs, so any batch size
    suits any number of items. In balanced reading every class occurs once per round, in an order of
    that round, and every item once per epoch of its class. Flips and crops of batch k are functions
    of (seed, k) as well. rows: the rows of each batch to read, all by default; one of several
    processes reads only its share.

    >>> from diffjax import data
    >>> batches = Batches(data.moons("train", size=10), 4, 0, Reading())
    >>> batches[2]["x"].shape
    (4, 2)
    """

    source: Source
    batch_size: int
    seed: int
    reading: Reading = field(default_factory=Reading)
    rows: Any = ...

    def __len__(self) -> int:
        return 2**62 // self.batch_size

    def items(self, index: int) -> np.ndarray:
        """Return the indices (B,) of the items of a batch in the source, as for its captions."""
        place = self._places(index)
        return self._balanced(place) if self.reading.balanced else self._each(place)

    def _places(self, index: int) -> np.ndarray:
        return int(index) * self.batch_size + np.arange(self.batch_size)[self.rows]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if isinstance(self.source, Drawn):
            items = self.source.draw(self.items(index), self._places(index), self.seed)
        else:
            items = self.source[self.items(index)]
        if not (self.reading.crop or self.reading.flip):
            return items
        rng = np.random.Generator(np.random.Philox(key=[2**32 + self.seed, int(index)]))
        form = self.source.form
        grids = ["x", *(s.name for s in form.conditions if s.kind == "map")]
        changed = flip_and_crop(
            {name: items[name] for name in grids},
            self.reading,
            form.items,
            rng=rng,
            size=self.batch_size,
            rows=self.rows,
        )
        return {**items, **changed}

    def _each(self, place: np.ndarray) -> np.ndarray:
        """Return the indices of the items at these places of the sequence of epochs."""
        size = len(self.source)
        epoch, item = np.divmod(place, size)
        parts = [_permutation(size, self.seed, int(e))[item[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(parts)

    def _balanced(self, place: np.ndarray) -> np.ndarray:
        """Return the indices of the items at these places of the sequence of rounds."""
        turn, slot = np.divmod(place, len(self._members))
        orders = {t: _order(len(self._members), self.seed, t, 1) for t in set(turn.tolist())}
        items = []
        for t, s in zip(turn.tolist(), slot.tolist(), strict=True):
            kind = int(orders[t][s])
            members = self._members[kind]
            epoch, item = divmod(t, len(members))
            order = _class_permutation(len(members), self.seed, epoch, 2 + kind)
            items.append(members[order[item]])
        return np.array(items)

    @functools.cached_property
    def _members(self) -> list[np.ndarray]:
        """The indices of the items of each class that has items."""
        label = self.source.labels()
        return [np.flatnonzero(label == kind) for kind in np.unique(label)]


def flip_and_crop(
    items: dict[str, np.ndarray],
    reading: Reading,
    kind: Kind,
    *,
    rng: np.random.Generator,
    size: int,
    rows: Any,
) -> dict[str, np.ndarray]:
    """Crop and mirror the `rows` of a batch of `size` items at random.

    items: x (b, ...) and the maps on its grid, which change in the same way. The random numbers are
    drawn for the whole batch, so they do not depend on `rows`. Arrays are mirrored in place.
    """
    x = items["x"]
    if reading.crop:
        most = np.array([x.shape[axis] for axis in kind.window]) - reading.crop
        corner = rng.integers(0, most + 1, (size, len(most)))[rows]
        cut = lambda a: window(a, corner, reading.crop, kind.window)
        items = {name: cut(value) for name, value in items.items()}
    if reading.flip and kind.mirror is not None:
        chosen = np.flatnonzero(rng.random(size)[rows] < 0.5)
        for value in items.values():
            value[chosen] = np.flip(value[chosen], kind.mirror)
    return items


def window(
    x: np.ndarray, corner: np.ndarray, side: int, axes: tuple[int, ...] = (-3, -2)
) -> np.ndarray:
    """Cut a window of `side` values along each of `axes` from each item of x (B, ...).

    corner: (B, n), where the window of each item begins along the n axes.
    """
    out = np.empty([side if i - x.ndim in axes else n for i, n in enumerate(x.shape)], x.dtype)
    for i, start in enumerate(corner):
        out[i] = x[i][_span(x.ndim, axes, start, side)]
    return out


def centre(x: np.ndarray, side: int, axes: tuple[int, ...] = (-3, -2)) -> np.ndarray:
    """Return the middle `side` values of items (B, ...) along `axes`, or x itself for side = 0.

    >>> centre(np.arange(16).reshape(1, 4, 4, 1), 2)[0, :, :, 0].tolist()
    [[5, 6], [9, 10]]
    """
    if not side:
        return x
    start = [(x.shape[axis] - side) // 2 for axis in axes]
    return x[:, *_span(x.ndim, axes, start, side)]


def _span(ndim: int, axes: tuple[int, ...], start: Any, side: int) -> tuple[slice, ...]:
    """Return the slices of one item that select `side` values along `axes`, beginning at `start`.

    ndim: the number of axes of a batch of such items.
    """
    first = dict(zip(axes, start, strict=True))
    axes_of_item = range(1 - ndim, 0)
    return tuple(
        slice(first[a], first[a] + side) if a in first else slice(None) for a in axes_of_item
    )


def centred(items: dict[str, np.ndarray], reading: Reading, form: Form) -> dict[str, np.ndarray]:
    """Return items with x and maps cropped at the centre, as the reading asks.

    items: arrays by name, from a source of this form. reading: sets the side of the window.
    """
    grids = {"x", *(s.name for s in form.conditions if s.kind == "map")}
    axes = form.items.window
    cut = lambda name, a: centre(a, reading.crop, axes) if name in grids else a
    return {name: cut(name, value) for name, value in items.items()}


def select(source: Source, reading: Reading, most: int) -> Memory:
    """Load at most `most` items, spread evenly over `source` and cropped at the centre.

    reading: the settings of the crop.

    >>> from diffjax import data
    >>> select(data.moons("train", size=100), Reading(), most=10)
    Memory(10 points items of (2,) float32, classes=2)
    """
    many = len(source) > most
    index = np.linspace(0, len(source) - 1, most).astype(int) if many else np.arange(len(source))
    items = load(source, index)
    cut = centred({"x": items.x, **items.cond}, reading, items.form)
    return replace(items, x=cut.pop("x"), cond=cut)


def read(
    batches: Batches, start: int, stop: int, per_item: int = 1, workers: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Iterate over batches start, ..., stop - 1 in stacks of `per_item`, which threads prefetch.

    The order does not depend on the number of `workers`; at most workers + 2 stacks wait.

    >>> from diffjax import data
    >>> batches = Batches(data.moons("train", size=10), 4, 0, Reading())
    >>> [stack["x"].shape for stack in read(batches, 0, 4, per_item=2)]
    [(2, 4, 2), (2, 4, 2)]
    """
    import grain

    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=workers + 1)
    stacks = grain.MapDataset.source(batches).slice(slice(start, stop)).batch(per_item)
    return iter(stacks.to_iter_dataset(options))
