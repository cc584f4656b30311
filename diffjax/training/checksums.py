"""A checksum per leaf of a state, the same whatever devices and processes hold it.

With words w_i, the bytes of element i of the whole leaf as an integer: sum_i w_i and sum_i i w_i,
both modulo 2^64. Parts add up, so every process sums the shards that it has. A change of one
element always shows in the first sum, two elements that changed places in the second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

BLOCK = 1 << 20
"""Elements at a time, so that little memory is needed."""

Sums = Mapping[str, Sequence[int]]
"""By the path of the leaf."""


def checksums(state: PyTree) -> Sums:
    """Of what this process holds of each leaf, each part of it once."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): _leaf(a) for path, a in leaves}


def total(parts: Iterable[Sums]) -> Sums:
    """Of whole leaves, from what the processes hold."""
    found: dict[str, tuple[int, int]] = {}
    for part in parts:
        for path, (plain, placed) in part.items():
            a, b = found.get(path, (0, 0))
            found[path] = ((a + plain) % 2**64, (b + placed) % 2**64)
    return found


def _leaf(a: jax.Array) -> tuple[int, int]:
    plain = placed = 0
    for shard in a.addressable_shards:
        if shard.replica_id == 0:
            starts = [s.start or 0 for s in shard.index]
            p, q = words(np.asarray(shard.data), starts, a.shape)
            plain, placed = plain + p, placed + q
    return plain % 2**64, placed % 2**64


def words(part: np.ndarray, starts: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int]:
    """The sums over `part`, which lies from `starts` on in a leaf of this shape."""
    if part.dtype == bool or not part.size:
        part = part.astype(np.uint8)
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    # From axis `split` on there are no gaps in the whole leaf: runs that begin at `first`.
    split = next((d for d in reversed(range(len(shape))) if part.shape[d] != shape[d]), 0)
    first = np.array(sum(s * n for s, n in zip(starts, strides, strict=True)), np.uint64)
    for d in range(split):
        rows = np.arange(part.shape[d], dtype=np.uint64) * np.uint64(strides[d])
        first = np.add.outer(first, rows)
    runs = np.ascontiguousarray(part).view(f"u{part.dtype.itemsize}")
    runs, first = runs.reshape(first.size, -1), first.reshape(-1)
    tall, wide = max(1, BLOCK // max(runs.shape[1], 1)), BLOCK
    plain = placed = 0
    for r in range(0, runs.shape[0], tall):
        for c in range(0, runs.shape[1], wide):
            block = runs[r : r + tall, c : c + wide].astype(np.uint64)
            sums = block.sum(1)
            inside = block @ np.arange(c, c + block.shape[1], dtype=np.uint64)
            plain += int(sums.sum())
            placed += int((inside + first[r : r + tall] * sums).sum())
    return plain % 2**64, placed % 2**64
