"""Encoding of a data set by a codec: the moments of all latents, written in resumable parts."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.codecs.base import Codec
from diffjax.codecs.decoding import CODEC
from diffjax.config import ConfigError
from diffjax.data.encoded import ABOUT, CAPTIONS, MOMENTS, UNFINISHED, file_of
from diffjax.data.form import Form
from diffjax.data.images import to_float
from diffjax.data.pipeline import Reading, centred
from diffjax.data.source import Captioned, Source, fingerprint
from diffjax.devices.mesh import layout
from diffjax.files import write_text
from diffjax.io.rows import Rows, claimed, finished, record
from diffjax.io.writing import writing
from diffjax.progress import Progress

SECONDS = 10.0
"""Seconds after which finished batches are recorded; an interruption repeats at most those."""
AHEAD = 2
"""Number of batches that are read while one is encoded."""
MEASURED = 2048
"""Number of items of which the deviation of the latents is measured."""


@dataclass(frozen=True)
class Encoding:
    """The encoding of the images of a data set.

    codec: the encoder. sources: the data by split. reading: of which the crop applies, at the
    centre. about: entries of the description besides those on the latents: `data`, the section of
    the images, and `codec`, the path of the codec. flips: whether mirrored images are encoded as
    well, as further rows of the training split. batch_size: images per batch on all devices
    together. Raises ValueError for items that are not images, and for a codec that does not fit.
    """

    codec: Codec
    sources: Mapping[str, Source]
    reading: Reading
    about: Mapping[str, Any]
    flips: bool = False
    batch_size: int = 64

    def __post_init__(self):
        _ = self.form

    @functools.cached_property
    def form(self) -> Form:
        """The form of the latents, with the fingerprint of the codec as a unit."""
        source = self.sources["train"]
        images = self.reading.shape(source)
        if source.form.kind != "image":
            raise ValueError(f"{source.form.kind} items {images}; needs images")
        conditions = tuple(s for s in source.form.conditions if s.kind != "map")
        units = ((CODEC, self.codec.fingerprint),)
        names = source.form.class_names
        shape = self.codec.latent_shape(images)
        return Form("latent", shape, conditions, units=units, class_names=names)

    def rows(self, split: str) -> int:
        """Return the number of latents of a split."""
        return len(self.sources[split]) * (1 + (self.flips and split == "train"))

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """All that the latents depend on, as JSON data."""
        facts = {
            "data": dict(self.about["data"]),
            "codec": self.codec.fingerprint,
            "flips": self.flips,
            "images": {split: fingerprint(source) for split, source in self.sources.items()},
        }
        return json.loads(json.dumps(facts))

    def run(self, out: Path) -> dict[str, Any]:
        """Encode to the folder `out`, or resume there, and return the description.

        The folder receives encoded.json, and a folder for each split with moments.npy, float16 (N,
        h, w, 2 C), the conditions and the captions. An interrupted call resumes, with the same
        bytes as a result. Raises ConfigError for a folder with other files or with other latents,
        and for moments beyond the range of float16.
        """
        names, done = (ABOUT, UNFINISHED), dict.fromkeys(self.sources, 0)
        done |= claimed(out, names, self.settings, "latents") or {}
        if not (out / ABOUT).exists():
            with writing(f"--out={out}"):
                for split in self.sources:
                    (out / split).mkdir(exist_ok=True)
            if not (out / UNFINISHED).is_file():
                record(out, UNFINISHED, self.settings, done)
            total = sum(self.rows(split) for split in self.sources)
            with Progress("encode", total, "image", sum(done.values()), lines=60) as progress:
                for split in self.sources:
                    self._encode(split, out, done, progress)
                    self._write_captions(split, out)
            with writing(f"--out={out}"):
                write_text(out / ABOUT, json.dumps(self._described(out), indent=2) + "\n")
            finished(out, UNFINISHED)
        return json.loads((out / ABOUT).read_text())

    def _encode(self, split: str, out: Path, done: dict[str, int], progress: Progress) -> None:
        """Encode the rows of a split that are not done, and record them from time to time."""
        names, recorded = (MOMENTS, *self.form.names), time.monotonic()
        files: dict[str, Rows] = {}
        try:
            for items, encoded in one_behind(self._encoded(split, done[split])):
                moments = np.asarray(encoded)[: len(items["x"])]
                check_range(moments, f"{split}, items from {done[split]} on")
                with writing(f"--out={out}"):
                    for name in names:
                        block = moments if name == MOMENTS else items[name]
                        if name not in files:
                            place, shape = out / split / file_of(name), block.shape[1:]
                            shape = (self.rows(split), *shape)
                            files[name] = Rows(place, shape, block.dtype, done[split])
                        files[name].append(block)
                done[split] += len(moments)
                progress.advance(len(moments))
                if time.monotonic() - recorded > SECONDS:
                    record(out, UNFINISHED, self.settings, done, files.values())
                    recorded = time.monotonic()
        finally:
            record(out, UNFINISHED, self.settings, done, files.values())
            for file in files.values():
                file.close()

    def _write_captions(self, split: str, out: Path) -> None:
        """Write the captions of the images of a split, if they have any."""
        source = self.sources[split]
        texts = source.captions(np.arange(len(source))) if isinstance(source, Captioned) else []
        if any(texts):
            with writing(f"--out={out}"):
                lines = "".join(json.dumps(row) + "\n" for row in texts)
                write_text(out / split / CAPTIONS, lines)

    def _encoded(self, split: str, first: int) -> Iterator[tuple[dict[str, np.ndarray], Any]]:
        """Iterate over batches from row `first` on: their items, and moments in the making."""
        devices, rows = layout(), self.rows(split)
        codec = devices.put(self.codec)
        batches = devices.batches(rows - first, min(self.batch_size, rows))
        with ThreadPoolExecutor(AHEAD) as pool:
            read = lambda index, count: (pool.submit(self._items, split, first + index), count)
            waiting = [read(*batch) for batch in islice(batches, AHEAD)]
            while waiting:
                reading, count = waiting.pop(0)
                items = reading.result()
                waiting += [read(*batch) for batch in islice(batches, 1)]
                moments = _moments(codec, devices.put(items["x"], 0))
                yield {name: values[:count] for name, values in items.items()}, moments

    def _items(self, split: str, row: np.ndarray) -> dict[str, np.ndarray]:
        """Return the items of rows; those behind all items are mirrored."""
        source = self.sources[split]
        items = centred(source[row % len(source)], self.reading, source.form)
        mirrored = (row >= len(source)).reshape(-1, 1, 1, 1)
        x = items["x"]
        return {**items, "x": np.where(mirrored, x[:, :, ::-1], x) if mirrored.any() else x}

    def _described(self, out: Path) -> dict[str, Any]:
        mean, std = deviation(np.load(out / "train" / MOMENTS, "r", allow_pickle=False))
        codec = {"fingerprint": self.codec.fingerprint, "about": self.codec.about}
        return {
            "data": dict(self.about["data"]),
            "codec": {"path": self.about["codec"], **codec},
            "form": self.form.as_json(),
            "images": list(self.reading.shape(self.sources["train"])),
            "flips": self.flips,
            "items": {split: self.rows(split) for split in self.sources},
            "mean": [round(float(m), 5) for m in mean],
            "std": [round(float(s), 5) for s in std],
            "settings": self.settings,
        }


@jax.jit
def _moments(codec: Codec, x: Any) -> Any:
    return jnp.concatenate(codec.moments(to_float(x)), axis=-1).astype(jnp.float16)


def check_range(moments: np.ndarray, place: str) -> None:
    """Raise ConfigError for moments that float16 cannot hold; place: which they are."""
    if not np.isfinite(moments).all():
        raise ConfigError(
            f"{place}: the moments exceed float16, or are not finite; needs a codec whose "
            f"normalisation suits the data"
        )


def one_behind(values: Iterator[Any]) -> Iterator[Any]:
    """Yield each value after the next one has been made, so that devices work meanwhile.

    >>> [*one_behind(iter([1, 2, 3]))]
    [1, 2, 3]
    """
    waiting = []
    for value in values:
        waiting.append(value)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def deviation(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (C,) of z = mean + std * eps over items and places.

    moments: (N, h, w, 2 C), of which up to 2,048 items are read.

    >>> mean, std = deviation(np.full((5, 2, 2, 2), 3.0))
    >>> mean.tolist(), std.tolist()
    ([3.0], [3.0])
    """
    index = np.unique(np.linspace(0, len(moments) - 1, MEASURED).astype(int))
    mean, std = np.split(np.asarray(moments[index], np.float64), 2, axis=-1)
    axes = tuple(range(mean.ndim - 1))
    centre = mean.mean(axes)
    return centre, np.sqrt((mean**2 + std**2).mean(axes) - centre**2)
