"""Operators that act on each value, or on the channels of each pixel, alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Shape, Spectrum, image
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Scale:
    """Multiplication of all values by one number, y = factor x0: pure denoising.

    factor: a number, or an array of the rank of x0 with a leading axis of 1 or B.

    >>> Scale(2.0)(jnp.ones((1, 2))).tolist()
    [[2.0, 2.0]]
    """

    factor: Any = 1.0
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        return self.factor * x0

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        squared = jnp.asarray(self.factor, y.dtype) ** 2
        return function(squared.reshape(squared.shape or (1,) * y.ndim)) * y


def identity(shape: Shape) -> Scale:
    """Return the identity, y = x0, for items of any shape: pure denoising.

    >>> identity((2,))(jnp.ones((1, 2))).tolist()
    [[1.0, 1.0]]
    """
    return Scale(1.0)


@pytree
@dataclass(frozen=True)
class Channels:
    """A weighted sum over the channels of each pixel: (B, H, W, C) -> (B, H, W, 1).

    weights: one number for each channel.

    >>> Channels((0.5, 0.5))(jnp.array([[1.0, 3.0]])).tolist()
    [[2.0]]
    """

    weights: tuple[float, ...] = field(metadata={"static": True})
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        weights = jnp.asarray(self.weights, x0.dtype).reshape((1,) * (x0.ndim - 1) + (-1,))
        return (x0 * weights).sum(-1, keepdims=True)

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        return function(jnp.full((1,) * y.ndim, sum(w**2 for w in self.weights), y.dtype)) * y


REC601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of Rec. 601, which Pillow and JPEG use."""


def grey(shape: Shape, weights: str = "mean") -> Channels:
    """Return the operator from colour to grey, for images of three channels.

    weights: `mean`, a third for each channel as in DDNM and DDRM, or `luma` (Rec. 601). Raises
    ValueError for other images and other weights.

    >>> grey((1, 1, 3))(jnp.array([[[[0.0, 0.75, 1.5]]]])).tolist()
    [[[[0.75]]]]
    """
    image("grey", shape, 3)
    known = {"mean": (1 / 3,) * 3, "luma": REC601}
    checks.one_of(known, weights=weights)
    return Channels(known[weights])
