"""Nonlinear operators, which covariances linearise at the prediction of x0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.inverse.operators.base import Shape, image, whole_blocks
from diffjax.inverse.operators.simple import REC601
from diffjax.prediction import Sample


@pytree
@dataclass(frozen=True)
class Function:
    """Any function of x0 (B, ...) that treats items alone and can be differentiated.

    apply: the function, hashable, or a `jax.tree_util.Partial` for one that holds arrays.

    >>> Function(jnp.exp)(jnp.zeros((1, 2))).tolist()
    [[1.0, 1.0]]
    """

    apply: Callable[[Sample], Sample] = field(metadata={"static": True})
    linear: ClassVar[bool] = False

    def __call__(self, x0: Sample) -> Sample:
        return self.apply(x0)


@pytree
@dataclass(frozen=True)
class Phase:
    """The magnitudes of the orthonormal Fourier transform of the zero-padded image.

    The result is (B, H + 2 pad, W + 2 pad, C). The derivative at a magnitude of 0 is set to 0.

    >>> Phase(0)(jnp.full((1, 2, 2, 1), -1.0)).ravel().tolist()  # the sign is lost
    [2.0, 0.0, 0.0, 0.0]
    """

    pad: int = field(metadata={"static": True})
    linear: ClassVar[bool] = False

    def __call__(self, x0: Sample) -> Sample:
        wide = jnp.pad(x0, ((0, 0), *[(self.pad, self.pad)] * 2, (0, 0)))
        seen = jnp.fft.fft2(wide, axes=(1, 2), norm="ortho")
        power = jnp.real(seen) ** 2 + jnp.imag(seen) ** 2
        return jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1)), 0)


def phase(shape: Shape, oversample: float = 1.0) -> Phase:
    """Return phase retrieval: Fourier magnitudes of the image padded by zeros.

    oversample: the padding on each side is oversample / 8 of the height, as in DPS
    (arXiv:2209.14687, app. D); >= 0.

    >>> phase((8, 8, 1), oversample=2.0)(jnp.ones((1, 8, 8, 1))).shape
    (1, 12, 12, 1)
    """
    h, _, _ = image("phase", shape)
    checks.not_negative(oversample=oversample)
    return Phase(int(oversample / 8 * h))


BLOCK = 8
"""Pixels per side of a block of JPEG."""
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Steps of the quantiser for luminance at quality 50 (ITU-T T.81, table K.1)."""
CHROMINANCE = np.full((BLOCK, BLOCK), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


@pytree
@dataclass(frozen=True)
class Jpeg:
    """A surrogate of JPEG compression whose derivative is that of the identity for the rounding.

    Images (B, H, W, C) of [-1, 1] with C = 1 or 3 are transformed to luminance and chrominance, cut
    into blocks of 8 x 8, transformed by the cosine transform, divided by the quantiser's steps,
    rounded, and transformed back. It differs from JPEG by full resolution of the chrominance and by
    not rounding or clipping the pixels of the result. The rounding passes its derivative straight
    through, so the Jacobian is that of the transform and its inverse, the identity.

    >>> Jpeg(50)(jnp.zeros((1, 8, 8, 1))).shape
    (1, 8, 8, 1)
    """

    quality: int = field(metadata={"static": True})
    linear: ClassVar[bool] = False

    def __call__(self, x0: Sample) -> Sample:
        levels = 127.5 * x0
        if x0.shape[-1] == 3:
            levels = _mixed(levels, _COLOURS)
        steps = jnp.asarray(quantiser(self.quality, x0.shape[-1]), x0.dtype)
        scaled = _blockwise(levels, _COSINES) / steps[None, None, :, None, :, :]
        rounded = scaled + jax.lax.stop_gradient(jnp.round(scaled) - scaled)
        levels = _assembled(rounded * steps[None, None, :, None, :, :], _COSINES.T)
        if x0.shape[-1] == 3:
            levels = _mixed(levels, np.linalg.inv(_COLOURS))
        return levels / 127.5


_COLOURS = np.array([REC601, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)])
"""From red, green and blue to luma and two differences of colour (ITU-T T.871)."""
_ANGLES = np.arange(BLOCK)[:, None] * (2 * np.arange(BLOCK)[None] + 1) * np.pi / (2 * BLOCK)
_COSINES = (
    np.cos(_ANGLES)
    * np.where(np.arange(BLOCK) > 0, np.sqrt(2 / BLOCK), np.sqrt(1 / BLOCK))[:, None]
)


def quantiser(quality: int, channels: int) -> Float[np.ndarray, "8 8 c"]:
    """Return the quantiser's steps of libjpeg for a quality in 1..100, (8, 8, C)."""
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = [LUMINANCE, CHROMINANCE, CHROMINANCE][:channels]
    return np.stack([np.floor((percent * a + 50) / 100).clip(1, 255) for a in tables], -1)


def _mixed(x: Sample, matrix: np.ndarray) -> Sample:
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("dc,bhwc->bhwd", jnp.asarray(matrix, x.dtype), x, precision=exact)


def _blockwise(x: Sample, matrix: np.ndarray) -> Array:
    """Cut images into blocks (B, H/8, 8, W/8, 8, C) and transform both axes of each block."""
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // BLOCK, BLOCK, w // BLOCK, BLOCK, c)
    turn, exact = jnp.asarray(matrix, x.dtype), jax.lax.Precision.HIGHEST
    return jnp.einsum("ui,vj,bhiwjc->bhuwvc", turn, turn, blocks, precision=exact)


def _assembled(blocks: Array, matrix: np.ndarray) -> Sample:
    """Invert `_blockwise` for an orthogonal transform, whose transpose is `matrix`."""
    b, h, _, w, _, c = blocks.shape
    flat = blocks.reshape(b, h * BLOCK, w * BLOCK, c)
    return _blockwise(flat, matrix).reshape(flat.shape)


def jpeg(shape: Shape, quality: int = 10) -> Jpeg:
    """Return a differentiable surrogate of JPEG compression, see `Jpeg`.

    quality: in 1..100, as in libjpeg. Raises ValueError unless the height and the width are
    multiples of 8 and there are one or three channels.

    >>> coarse = jpeg((8, 8, 1), quality=50)(jnp.full((1, 8, 8, 1), 0.01))
    >>> round(float(coarse[0, 0, 0, 0] * 127.5), 3)  # 1.275 levels: 10.2 / 16 of a step of the mean
    2.0
    """
    _, _, c = whole_blocks("jpeg", shape, BLOCK)
    checks.one_of((1, 3), channels=c)
    checks.whole(1, quality=quality)
    checks.within(1, 100, quality=quality)
    return Jpeg(quality)
