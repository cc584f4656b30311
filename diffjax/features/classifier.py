"""A small classifier of images or points to judge samples with, without trained parameters."""

from __future__ import annotations

import functools
import math

from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.nets.kernels.convolution import convolution
from diffjax.nets.layers import GroupNorm
from diffjax.nets.network import Features

Conv = functools.partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=convolution)


class Classifier(nn.Module):
    """Classifier with three convolutions for images, or three layers for vectors.

    Images are first averaged to about 32 x 32. pool (B, 4 width): the input of the last layer.
    logits (B, classes).
    """

    classes: int
    width: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b *d"]) -> dict[str, Array]:
        if x.ndim == 4:
            pool = max(1, math.ceil(max(x.shape[1:3]) / 32))
            x = nn.avg_pool(x, (pool, pool), (pool, pool), "SAME")
            for factor in (1, 2, 4):
                x = Conv(factor * self.width, strides=(2, 2) if factor > 1 else (1, 1))(x)
                x = nn.silu(GroupNorm()(x))
            x = nn.avg_pool(x, (2, 2), (2, 2), "SAME").reshape(x.shape[0], -1)
        for _ in range(1 if x.shape[1] > 64 else 3):
            x = nn.silu(nn.Dense(4 * self.width)(x))
        return {"pool": x, "logits": nn.Dense(self.classes)(x)}


def classifier(classes: int, width: int = 32) -> Features:
    """Return `init(key, x)` and `apply(params, x) -> {pool, logits}` of `Classifier`."""
    module = Classifier(classes, width)
    return Features(
        lambda key, x: module.init(key, x)["params"],
        lambda params, x: module.apply({"params": params}, x),
    )
