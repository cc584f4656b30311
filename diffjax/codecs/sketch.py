"""Sketches of latents: a linear map to small pictures, in place of a decoder, for previews."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from diffjax.data.images import to_uint8


@dataclass(frozen=True)
class Sketch:
    """The affine map from the channels of a latent to grey levels, the same in every place.

    matrix: (Z + 1, C); its last row is the constant. It costs nothing beside a decoder, and shows
    layout and colours at the size of the latents.

    >>> grey = Sketch(np.array([[1.0], [0.0]]))
    >>> grey(np.array([[[[-1.0], [1.0]]]])).tolist()
    [[[[0], [255]]]]
    """

    matrix: np.ndarray

    def __call__(self, z: Float[np.ndarray, "n h w z"]) -> UInt8[np.ndarray, "n h w c"]:
        """Return small pictures of latents."""
        return to_uint8(np.asarray(z) @ self.matrix[:-1] + self.matrix[-1])


def sketch(z: Float[np.ndarray, "n h w z"], images: Float[np.ndarray, "n H W c"]) -> Sketch:
    """Return the sketch that is nearest to images in [-1, 1], by least squares.

    z: latents; images: those that they decode to, whose sides are multiples of those of z and which
    are averaged to them. Raises ValueError for other sides.

    >>> z = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    >>> images = np.repeat(np.repeat(z[..., :1] / 2 - 0.1, 2, 1), 2, 2)
    >>> (sketch(z, images).matrix.round(6) + 0).tolist()
    [[0.5], [0.0], [0.0], [-0.1]]
    """
    (count, high, wide, channels), (_, tall, broad, colours) = z.shape, images.shape
    if tall % high or broad % wide:
        raise ValueError(f"images of {tall} x {broad}: need multiples of {high} x {wide}")
    parts = images.reshape(count, high, tall // high, wide, broad // wide, colours)
    small = parts.mean((2, 4)).reshape(-1, colours)
    ones = np.concatenate([z.reshape(-1, channels), np.ones((len(small), 1))], axis=1)
    return Sketch(np.linalg.lstsq(ones, small, rcond=None)[0])
