"""Circular blurs, which the Fourier transform diagonalises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Shape, Spectrum, check_batch, image
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Blur:
    """The circular convolution of each channel with a kernel; the image continues periodically.

    kernel: (1 or B, H, W, 1), whose entry (0, 0) multiplies the pixel itself.

    >>> shift = jnp.zeros((1, 1, 4, 1)).at[0, 0, 1, 0].set(1)
    >>> Blur(shift)(jnp.arange(4.0).reshape(1, 1, 4, 1)).ravel().round(4).tolist()
    [3.0, 0.0, 1.0, 2.0]
    """

    kernel: Any
    linear: ClassVar[bool] = True

    def __call__(self, x0: Sample) -> Sample:
        check_batch("kernel", self.kernel, len(x0))
        return _filtered(x0, self.response(x0.dtype))

    def response(self, dtype: Any) -> Array:
        """Return the Fourier transform of the kernel, (1 or B, H, W // 2 + 1, 1)."""
        return jnp.fft.rfft2(jnp.asarray(self.kernel, dtype), axes=(1, 2))

    def gram(self, y: Sample, function: Spectrum) -> Sample:
        response = self.response(y.dtype)
        return _filtered(y, function(jnp.real(response) ** 2 + jnp.imag(response) ** 2))


def _filtered(x: Sample, response: Array) -> Sample:
    transformed = jnp.fft.rfft2(x, axes=(1, 2))
    return jnp.fft.irfft2(response * transformed, s=x.shape[1:3], axes=(1, 2))


def gaussian_blur(shape: Shape, std: float = 1.0) -> Blur:
    """Return the blur with a Gaussian kernel of standard deviation `std` > 0, in pixels.

    >>> blur = gaussian_blur((8, 8, 1), std=2.0)
    >>> blur.kernel.shape, round(float(blur.kernel.sum()), 4)
    ((1, 8, 8, 1), 1.0)
    """
    h, w, _ = image("gaussian_blur", shape)
    checks.within(0, np.inf, "()", std=std)
    down, across = (np.exp(-0.5 * (_distance(n) / std) ** 2) for n in (h, w))
    return _normalised(down[:, None] * across[None])


def motion_blur(shape: Shape, length: float = 5.0, angle: float = 0.0) -> Blur:
    """Return the blur along a straight line.

    length: of the line in pixels, >= 1 and at most the smaller side of the image. angle: in degrees
    from the horizontal. Each point of the line is split bilinearly among the four pixels around it.

    >>> motion_blur((1, 4, 1), length=1.0).kernel.ravel().tolist()  # a point: no blur
    [1.0, 0.0, 0.0, 0.0]
    """
    h, w, _ = image("motion_blur", shape)
    checks.within(1, min(h, w), length=length)
    checks.finite(angle=angle)
    along = np.linspace(-0.5, 0.5, 16 * int(np.ceil(length)) + 1) * (length - 1)
    turn = np.deg2rad(angle)
    kernel = np.zeros((h, w))
    for y, x in zip(-np.sin(turn) * along, np.cos(turn) * along, strict=True):
        i, j = int(np.floor(y)), int(np.floor(x))
        for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
            share = abs(1 - di - (y - i)) * abs(1 - dj - (x - j))
            kernel[(i + di) % h, (j + dj) % w] += share
    return _normalised(kernel)


def _distance(n: int) -> Float[np.ndarray, " n"]:
    """Return the distance of each position from position 0 on a circle of n positions."""
    return np.minimum(np.arange(n), n - np.arange(n))


def _normalised(kernel: Float[np.ndarray, "h w"]) -> Blur:
    return Blur(jnp.asarray((kernel / kernel.sum())[None, :, :, None]))
