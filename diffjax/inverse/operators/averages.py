"""Averages over blocks of pixels, and bicubic downsampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Shape, Spectrum, whole_blocks
from diffjax.nets.resize import smooth
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class BlockAverage:
    """The mean of each block of factor x factor pixels: (B, H, W, C) -> (B, H/factor, ...).

    >>> BlockAverage(2)(jnp.arange(8.0).reshape(1, 2, 4, 1)).ravel().tolist()
    [2.5, 4.5]
    """

    factor: int = field(metadata={"static": True})
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        b, h, w, c = x0.shape
        k = self.factor
        return x0.reshape(b, h // k, k, w // k, k, c).mean((2, 4))

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        return function(jnp.full((1,) * y.ndim, self.factor**-2, y.dtype)) * y


def average(shape: Shape, factor: int = 2) -> BlockAverage:
    """Return block averaging, the super-resolution operator of DDRM and DDNM.

    factor: pixels per side of a block, which must divide the height and the width.

    >>> average((2, 2, 1))(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel().tolist()
    [1.5]
    """
    whole_blocks("average", shape, factor)
    return BlockAverage(factor)


@pytree
@dataclass(frozen=True)
class Separable:
    """One matrix for the rows and one for the columns: (B, H, W, C) -> (B, h, w, C).

    rows: (h, H). columns: (w, W).

    >>> half = jnp.array([[0.5, 0.5]])
    >>> Separable(half, half)(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel().tolist()
    [1.5]
    """

    rows: Any
    columns: Any
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        exact = jax.lax.Precision.HIGHEST
        rows, columns = (jnp.asarray(a, x0.dtype) for a in (self.rows, self.columns))
        x0 = jnp.einsum("jw,bhwc->bhjc", columns, x0, precision=exact)
        return jnp.einsum("ih,bhjc->bijc", rows, x0, precision=exact)


def bicubic(shape: Shape, factor: int = 2) -> Separable:
    """Return bicubic downsampling with antialiasing, as Pillow computes it before rounding.

    factor: the ratio of old to new height and width, which it must divide. The operator has no
    spectrum here: covariances solve their equations by conjugate gradients.

    >>> bicubic((4, 4, 1))(jnp.ones((1, 4, 4, 1))).round(4).ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    h, w, _ = whole_blocks("bicubic", shape, factor)
    return Separable(smooth(h, h // factor), smooth(w, w // factor))
