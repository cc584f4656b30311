"""The protocol of filters, and what becomes of images that they stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

GREY = 128
"""Grey level that replaces a stopped image."""
BATCH = 16
"""Images per batch."""
Images = UInt8[np.ndarray, "b h w 3"]


@dataclass(frozen=True)
class Filter:
    """A filter of images, of prompts, or of both.

    name: its entry of the catalogue. scores: maps uint8 images (B, H, W, 3) to scores (B,), or None
    for a filter of prompts alone. threshold: images with a higher score are stopped. texts: raises
    ValueError, which says why, for a prompt that is refused, or None. facts: what the protocol of
    samples states beside the name, such as the fingerprint of weights.

    >>> bright = Filter("bright", lambda x: x.mean((1, 2, 3)) / 255, threshold=0.5)
    >>> bright.stops(np.full((2, 4, 4, 1), [[[[0]]], [[[200]]]], np.uint8)).tolist()
    [False, True]
    """

    name: str
    scores: Callable[[Images], Float[np.ndarray, " b"]] | None = None
    threshold: float = math.inf
    texts: Callable[[str], None] | None = None
    facts: Mapping[str, Any] | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Entries of the protocol."""
        limit = {} if self.scores is None else {"threshold": self.threshold}
        return {"name": self.name} | limit | dict(self.facts or {})

    def stops(self, images: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, " n"]:
        """Return which images, grey or RGB, are stopped.

        Raises ValueError for scores of another shape, or that are not finite.
        """
        if self.scores is None:
            return np.zeros(len(images), bool)
        parts = [self._scored(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return np.concatenate(parts) > self.threshold

    def _scored(self, images: np.ndarray) -> np.ndarray:
        assert self.scores is not None
        scores = np.asarray(self.scores(np.broadcast_to(images, (*images.shape[:3], 3))))
        if scores.shape != images.shape[:1] or not np.isfinite(scores).all():
            raise ValueError(
                f"{self.name}: returns scores of shape {scores.shape} for {len(images)} images; "
                f"needs one finite number per image"
            )
        return scores


class Filtered(NamedTuple):
    """Images after filters: x (N, H, W, C), and stopped (N,), those that are grey now.

    >>> Filtered(np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, bool)).x.shape
    (0, 4, 4, 1)
    """

    x: np.ndarray
    stopped: np.ndarray


def filtered(filters: Sequence[Filter], images: np.ndarray) -> Filtered:
    """Return images (N, H, W, 1 or 3) with those grey that one of the filters stops.

    Raises ValueError for other items than uint8 images.

    >>> bright = Filter("bright", lambda x: x.mean((1, 2, 3)) / 255, threshold=0.5)
    >>> result = filtered([bright], np.full((2, 4, 4, 1), 200, np.uint8))
    >>> result.stopped.tolist(), int(result.x.max())
    ([True, True], 128)
    """
    check_images(images.shape[1:], str(images.dtype))
    stopped = np.zeros(len(images), bool)
    for each in filters:
        stopped |= each.stops(images)
    return Filtered(np.where(stopped[:, None, None, None], np.uint8(GREY), images), stopped)


def check_images(shape: tuple[int, ...], dtype: str) -> None:
    """Raise ValueError unless items of this shape and type are grey or RGB images.

    >>> check_images((2,), "float32")
    Traceback (most recent call last):
    ValueError: items float32 (2,): filters need uint8 images (H, W, 1 or 3)
    """
    if dtype != "uint8" or len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(f"items {dtype} {shape}: filters need uint8 images (H, W, 1 or 3)")
