"""Removal of duplicate images: hashes, and the choice of the image that each group keeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from diffjax.progress import Progress

SIDE, LOW, ROWS = 32, 8, 128
ALIKE = 10.0
"""Largest mean difference, in grey levels, between small versions of two near duplicates."""
_WAVES = np.cos(np.pi * np.outer(np.arange(LOW), 2 * np.arange(SIDE) + 1) / (2 * SIDE))


def look(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return a perceptual hash (N,) and a small version (N, 8, 8, 3) of each uint8 image.

    Each of the 63 lowest cosine coefficients of a grey 32 x 32 version sets a bit of the hash if
    the coefficient lies above their median. Changes of brightness or contrast, small edits and JPEG
    compression leave most bits unchanged.
    """
    small = np.empty((len(images), LOW, LOW, 3), np.uint8)
    grey = np.empty((len(images), SIDE, SIDE))
    for k, x in enumerate(images):
        image = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
        box = Image.Resampling.BOX
        small[k] = np.asarray(image.convert("RGB").resize((LOW, LOW), box))
        grey[k] = np.asarray(image.convert("L").resize((SIDE, SIDE), box))
    # Rounded: otherwise float errors set the bits of a flat image, whose coefficients are all 0.
    cosines = np.round(_WAVES @ grey @ _WAVES.T, 6).reshape(len(images), LOW**2)[:, 1:]
    bits = cosines > np.median(cosines, axis=1, keepdims=True)
    return bits @ (np.uint64(1) << np.arange(cosines.shape[1], dtype=np.uint64)), small


class Removed(NamedTuple):
    """The removed items, the item kept in place of each, and their Hamming distance: each (M,).

    The distance is the number of bits in which the perceptual hashes differ.
    """

    item: np.ndarray
    kept: np.ndarray
    bits: np.ndarray


def exact(digest: np.ndarray, order: np.ndarray) -> Removed:
    """Remove copies: the first item in `order` with each digest (N, ...) is kept."""
    _, group = np.unique(digest[order], axis=0, return_inverse=True)
    first = np.full(len(order), len(order))
    np.minimum.at(first, group.ravel(), np.arange(len(order)))
    kept = first[group.ravel()]
    gone = np.flatnonzero(kept < np.arange(len(order)))
    return Removed(order[gone], order[kept[gone]], np.zeros(len(gone), int))


def near(bits: np.ndarray, small: np.ndarray, order: np.ndarray, most: int) -> Removed:
    """Remove items that look like an item kept before them in the given order.

    Two items look alike if their hashes differ in at most `most` bits and their small versions
    agree. bits: hashes (N,). small: (N, 8, 8, 3), see `look`. order: indices of items, by
    decreasing priority.
    """
    ordered, pairs = bits[order], []
    with Progress("compare", len(order), "item") as progress:
        for start in range(0, len(order), ROWS):
            rows = ordered[start : start + ROWS]
            apart = np.bitwise_count(rows[:, None] ^ ordered[None, : start + len(rows)])
            i, j = np.nonzero(apart <= most)
            i, apart = i + start, apart[i, j]
            later = j < i
            i, j, apart = i[later], j[later], apart[later]
            far = np.abs(small[order[i]].astype(np.int16) - small[order[j]]).mean((1, 2, 3))
            pairs += np.stack([i, j, apart], 1)[far <= ALIKE].tolist()
            progress.advance(len(rows))
    stands, gone = np.ones(len(order), bool), []
    for i, j, apart in pairs:  # i rises and j < i, so the fate of j is already decided
        if stands[i] and stands[j]:
            stands[i] = False
            gone.append((order[i], order[j], apart))
    return Removed(*np.array(gone, np.int64).reshape(-1, 3).T)
