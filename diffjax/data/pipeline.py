"""The input pipeline: batch k is a function of (seed, k), whatever was read before it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffjax.data.source import Source


@functools.lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)


@dataclass(frozen=True)
class Batches:
    """Batch k of an endless sequence of epochs, each in an order of its own.

    Every item comes exactly once per epoch; a batch may straddle two epochs, so any batch size
    suits any number of items.
    """

    source: Source
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return 2**62 // self.batch_size

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        size = len(self.source)
        epoch, item = np.divmod(int(index) * self.batch_size + np.arange(self.batch_size), size)
        parts = [_permutation(size, self.seed, int(e))[item[epoch == e]] for e in np.unique(epoch)]
        return self.source[np.concatenate(parts)]


def read(batches: Batches, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches start, ..., stop - 1, read ahead by a thread."""
    import grain

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(grain.MapDataset.source(batches).slice(slice(start, stop)).to_iter_dataset(options))
