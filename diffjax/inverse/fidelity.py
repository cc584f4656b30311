"""Distances of restored images from the truth, PSNR and SSIM, in float64 on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from diffjax import checks

WINDOW = 7
"""Pixels per side of the windows of SSIM, as in scikit-image."""


def psnr(
    x: Float[np.ndarray, "*b h w c"], truth: Float[np.ndarray, "*b h w c"], width: float = 2.0
) -> Float[np.ndarray, "*b"]:
    """Return 10 log10(width^2 / mean squared error) of each image, in decibels.

    x, truth: (..., H, W, C). width: that of the range of the values, 2 for [-1, 1]. Equal images
    have an infinite PSNR.

    >>> psnr(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.2)).tolist()  # 10 log10(4 / 0.04)
    [20.0]
    """
    error = np.asarray(x, np.float64) - np.asarray(truth, np.float64)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(width**2 / (error**2).mean((-3, -2, -1)))


def ssim(
    x: Float[np.ndarray, "*b h w c"], truth: Float[np.ndarray, "*b h w c"], width: float = 2.0
) -> Float[np.ndarray, "*b"]:
    """Return the structural similarity of each image, at most 1 (Wang et al., IEEE TIP 2004).

    It is the mean over channels and over all windows of 7 x 7 pixels that lie within the image,
    with equal weights and unbiased variances, as `skimage.metrics.structural_similarity` computes
    it by default. Raises ValueError for images smaller than a window.

    >>> image = np.linspace(-1, 1, 64).reshape(1, 8, 8, 1)
    >>> ssim(image, image).round(6).tolist()
    [1.0]
    """
    a, b = (np.asarray(v, np.float64) for v in np.broadcast_arrays(x, truth))
    for name, side in (("height", a.shape[-3]), ("width", a.shape[-2])):
        checks.at_least(WINDOW, **{name: side})
    view = np.lib.stride_tricks.sliding_window_view
    cut = lambda v: view(v, (WINDOW, WINDOW), axis=(-3, -2)).reshape(
        *v.shape[:-3], v.shape[-3] - WINDOW + 1, v.shape[-2] - WINDOW + 1, v.shape[-1], -1
    )
    a, b = cut(a), cut(b)
    mean_a, mean_b = a.mean(-1), b.mean(-1)
    share = a.shape[-1] / (a.shape[-1] - 1)
    var = share * (a.var(-1) + b.var(-1))
    cov = share * ((a * b).mean(-1) - mean_a * mean_b)
    first, second = (0.01 * width) ** 2, (0.03 * width) ** 2
    light = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    return (light * (2 * cov + second) / (var + second)).mean((-3, -2, -1))
