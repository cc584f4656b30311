"""Masks: inpainting of a box, of single pixels, and of one half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Shape, Spectrum, check_batch, image
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Mask:
    """The values where `keep` is true; y has the shape of x0 and is 0 elsewhere.

    keep: booleans of the rank of x0, with a leading axis of 1 or B and a last axis of 1 where all
    channels share the mask. Values of y where `keep` is false have no influence.

    >>> Mask(jnp.array([[True, False]]))(jnp.ones((1, 2))).tolist()
    [[1.0, 0.0]]
    """

    keep: Any
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        check_batch("keep", self.keep, len(x0))
        return jnp.where(self.keep, x0, 0)

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        return function(jnp.asarray(self.keep).astype(y.dtype)) * y


SIDES = ("left", "right", "top", "bottom")


def box(shape: Shape, size: float = 0.5, top: float = 0.25, left: float = 0.25) -> Mask:
    """Return the mask that hides a box of an image.

    size: the share of the height and of the width that the box covers, in (0, 1]. top, left: where
    it begins, as shares of the height and of the width; the default is the centre. Edges are
    rounded to pixels. Raises ValueError for a box that leaves the image.

    >>> box((4, 4, 1)).keep[0, :, :, 0].astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    h, w, _ = image("box", shape)
    checks.within(0, 1, "(]", size=size)
    checks.within(0, 1 - size, top=top, left=left)
    keep = np.ones((1, h, w, 1), bool)
    rows, columns = (slice(round(a * n), round((a + size) * n)) for a, n in ((top, h), (left, w)))
    keep[:, rows, columns] = False
    return Mask(jnp.asarray(keep))


def half(shape: Shape, side: str = "right") -> Mask:
    """Return the mask that hides one half of an image: `left`, `right`, `top` or `bottom`.

    >>> half((1, 4, 1)).keep[0, :, :, 0].astype(int).tolist()
    [[1, 1, 0, 0]]
    """
    h, w, _ = image("half", shape)
    checks.one_of(SIDES, side=side)
    row, column = np.arange(h)[:, None], np.arange(w)[None]
    hidden = {
        "left": column < w // 2,
        "right": column >= w - w // 2,
        "top": row < h // 2,
        "bottom": row >= h - h // 2,
    }[side]
    return Mask(jnp.asarray(~np.broadcast_to(hidden, (h, w))[None, :, :, None]))


def pixels(shape: Shape, share: float = 0.5, seed: int | Sequence[int] = 0) -> Mask:
    """Return the mask that hides each position with probability `share`, all its channels together.

    share: in [0, 1]. seed: one for all items, or a sequence of seeds, one for each item. Of items
    with two or more axes the last axis holds the channels.

    >>> pixels((2, 2, 3), share=0.0).keep.shape, pixels((2, 2, 3), seed=[0, 1]).keep.shape
    ((1, 2, 2, 1), (2, 2, 2, 1))
    """
    checks.within(0, 1, share=share)
    seeds = [seed] if isinstance(seed, int | np.integer) else list(seed)
    keys = [jax.random.key(checks.seed(s)) for s in seeds]
    positions = (*shape[:-1], 1) if len(shape) > 1 else shape
    draw = lambda key: jax.random.uniform(key, positions) >= share
    return Mask(jnp.stack([draw(key) for key in keys]))
