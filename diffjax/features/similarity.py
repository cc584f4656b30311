"""Similarity of pairs of images without a network: PSNR and SSIM, one value per pair."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.arrays import dims

WINDOW, SIGMA = 11, 1.5
"""Side and deviation, in pixels, of the Gaussian window of SSIM."""


def psnr(x: Float[Array, "b *d"], y: Float[Array, "b *d"]) -> Float[Array, " b"]:
    """Return the peak signal-to-noise ratio 10 log10(4 / mean (x - y)^2) in dB, (B,).

    x, y: items in [-1, 1], whose range is 2. Values outside are not clipped. Equal items have 120.

    >>> psnr(jnp.ones((1, 4)), jnp.full((1, 4), 0.8)).round(2).tolist()
    [20.0]
    """
    return 10 * jnp.log10(4 / jnp.maximum(((x - y) ** 2).mean(dims(x)), 4e-12))


def window(side: int) -> Float[np.ndarray, "v n"]:
    """Return the matrix of a Gaussian window of at most 11 values at all places inside `side`.

    >>> window(12).shape, window(4).shape
    ((2, 12), (2, 4))
    """
    size = min(WINDOW, side - 1 + side % 2)
    bell = np.exp(-0.5 * ((np.arange(size) - size // 2) / SIGMA) ** 2)
    rows = [np.pad(bell / bell.sum(), (i, side - size - i)) for i in range(side - size + 1)]
    return np.stack(rows).astype(np.float32)


def ssim(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Return the structural similarity of images in [-1, 1], (B,) (Wang et al. 2004).

    It is the mean of (2 mx my + c1) (2 cov + c2) / ((mx^2 + my^2 + c1) (vx + vy + c2)) over places
    and channels, with moments in a Gaussian window of side 11 and deviation 1.5 that lies inside
    the image, c1 = (0.01 range)^2, c2 = (0.03 range)^2 and range 2. Smaller images have the largest
    odd window that fits.

    >>> x = jnp.linspace(-1, 1, 64).reshape(1, 8, 8, 1)
    >>> ssim(x, x).round(4).tolist()
    [1.0]
    """
    rows, columns = window(x.shape[1]), window(x.shape[2])
    mean = lambda a: jnp.einsum("vh,bhwc,uw->bvuc", rows, a, columns)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x**2) - mx**2, mean(y**2) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    places = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return places.mean((1, 2, 3))
