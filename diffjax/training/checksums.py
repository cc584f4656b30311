"""Checksums of the leaves of a state, independent of the devices and processes that hold them.

With w_i, the bytes of element i of the whole leaf as an integer, the checksum is the pair sum_i w_i
and sum_i i w_i, both modulo 2^64. The sums of parts add up, so every process sums its own shards. A
change of one element always changes the first sum; an exchange of two elements changes the second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from diffjax.io.reading import Tensors, write
from diffjax.io.trees import fingerprint

BLOCK = 1 << 20
"""Number of elements that are summed at a time, which bounds the memory."""

SUMS, ABOUT = "checksums", "about"
"""Keys of the metadata of a .safetensors file with the checksums of tensors and other metadata."""
Sums = Mapping[str, Sequence[int]]
"""The two sums of each leaf, by its path."""


def checksums(state: PyTree) -> Sums:
    """Return the checksums of the parts of each leaf that this process holds, each part once."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): _leaf(a) for path, a in leaves}


def total(parts: Iterable[Sums]) -> Sums:
    """Return the checksums of whole leaves, the sums over all processes."""
    sums: dict[str, tuple[int, int]] = {}
    for part in parts:
        for path, (plain, placed) in part.items():
            a, b = sums.get(path, (0, 0))
            sums[path] = ((a + plain) % 2**64, (b + placed) % 2**64)
    return sums


def save(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write a .safetensors file with checksums of its tensors and of the metadata `about`."""
    sums = {name: of_array(np.asarray(a)) for name, a in tensors.items()}
    stamps = {SUMS: json.dumps(sums, sort_keys=True), ABOUT: fingerprint(dict(about), ())}
    write(path, tensors, {**about, **stamps})


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors of a .safetensors file and its metadata without the checksums.

    Files of other programs have no checksums and are not verified. Raises ValueError, which names
    the file and the tensors, where a checksum differs from the saved one.
    """
    file = Tensors(path)
    try:
        sums, tensors = stored(file), dict(file)
        if sums is not None:
            verify(tensors, sums)
            if missing := sorted(set(sums) - set(tensors)):
                raise ValueError(f"{', '.join(missing[:3])}: missing: the file is damaged")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return tensors, {k: v for k, v in file.metadata.items() if k not in (SUMS, ABOUT)}


def stored(file: Tensors) -> Sums | None:
    """Return the checksums in a file, None where it has none.

    Raises ValueError where the metadata of the file have changed.
    """
    if SUMS not in file.metadata and ABOUT not in file.metadata:
        return None
    if SUMS not in file.metadata:
        raise ValueError("its checksums are missing: the file is damaged")
    about = {k: v for k, v in file.metadata.items() if k not in (SUMS, ABOUT)}
    if file.metadata.get(ABOUT) != fingerprint(about, ()):
        raise ValueError("the checksum of its metadata differs from the saved one: damaged file")
    try:
        sums = json.loads(file.metadata[SUMS])
    except ValueError:
        sums = None
    if not isinstance(sums, dict):
        raise ValueError("its checksums cannot be read: the file is damaged")
    return sums


def verify(tensors: Mapping[str, np.ndarray], sums: Sums) -> None:
    """Raise ValueError, which names the tensors whose checksums differ from `sums`."""
    wrong = [name for name, a in tensors.items() if of_array(a) != sums.get(name)]
    if wrong:
        raise ValueError(
            f"the checksum of {', '.join(sorted(wrong)[:3])} differs from the saved one: the file "
            f"is damaged"
        )


def of_array(a: np.ndarray) -> list[int]:
    """Return both sums of a whole array."""
    return [*words(a, [0] * a.ndim, a.shape)]


def _leaf(a: jax.Array) -> tuple[int, int]:
    plain = placed = 0
    for shard in a.addressable_shards:
        if shard.replica_id == 0:
            starts = [s.start or 0 for s in shard.index]
            p, q = words(np.asarray(shard.data), starts, a.shape)
            plain, placed = plain + p, placed + q
    return plain % 2**64, placed % 2**64


def words(part: np.ndarray, starts: Sequence[int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return both sums over `part`, which begins at the index `starts` in a leaf of this shape."""
    if part.dtype == bool or not part.size:
        part = part.astype(np.uint8)
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    # The part is contiguous in the whole leaf from axis `split` on: runs that begin at `first`.
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
