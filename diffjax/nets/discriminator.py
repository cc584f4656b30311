"""Discriminators: networks that tell images from reconstructions, for adversarial losses."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, cast

from flax import linen as nn
from jaxtyping import Array, Float, Key

from diffjax.arrays import Params, catalogue
from diffjax.checks import positive
from diffjax.nets.kernels.convolution import convolution
from diffjax.nets.layers import GroupNorm

Image = Float[Array, "b h w c"]


class Patches(nn.Module):
    """Convolutions of side 4, of which the first `layers` halve the sides: (B, h, w, 1)."""

    channels: int
    layers: int

    @nn.compact
    def __call__(self, x: Image) -> Float[Array, "b i j 1"]:
        draw = nn.initializers.normal(0.02)
        settings = {"padding": ((1, 1), (1, 1)), "kernel_init": draw}
        conv = functools.partial(
            nn.Conv, kernel_size=(4, 4), conv_general_dilated=convolution, **settings
        )
        x = conv(self.channels, strides=(2, 2), name="conv_0")(x)
        for i in range(1, self.layers + 1):
            x = nn.leaky_relu(x, 0.2)
            stride = 2 if i < self.layers else 1
            width = self.channels * min(2**i, 8)
            x = conv(width, strides=(stride, stride), use_bias=False, name=f"conv_{i}")(x)
            x = GroupNorm(name=f"norm_{i}")(x)
        return conv(1, strides=(1, 1), name="last")(nn.leaky_relu(x, 0.2))


@dataclass(frozen=True)
class PatchGAN:
    """The discriminator of pix2pix, which judges overlapping patches (arXiv:1611.07004, app. 6.1).

    A group norm takes the place of the batch norm, so that no image depends on its batch. channels:
    the width of the first layer, which doubles up to 8 times. layers: the number of layers that
    halve the sides; 3 of them judge patches of 70 x 70 pixels. Raises ValueError for settings below
    1.

    >>> import jax, jax.numpy as jnp
    >>> judge, x = PatchGAN(channels=8, layers=1), jnp.zeros((2, 8, 8, 1))
    >>> judge(judge.init(jax.random.key(0), x), x).shape
    (2, 2, 2, 1)
    """

    channels: int = 64
    layers: int = 3

    def __post_init__(self):
        positive(channels=self.channels, layers=self.layers)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError for the shape (H, W, C) of images that are too small to be judged."""
        least = 3 * 2**self.layers
        if len(shape) != 3 or min(shape[:2]) < least:
            raise ValueError(
                f"discriminator.layers={self.layers}: judges images of at least {least} x {least}; "
                f"the items have the shape {shape}"
            )

    def init(self, key: Key[Array, ""], x: Image) -> Params:
        """Draw the parameters for images like x."""
        return cast(Params, Patches(self.channels, self.layers).init(key, x)["params"])

    def __call__(self, params: Params, x: Image) -> Float[Array, "b i j 1"]:
        """Return a logit for each patch, which is large for images and small for others."""
        module: Any = Patches(self.channels, self.layers)
        return module.apply({"params": params}, x)


DISCRIMINATORS = catalogue(PatchGAN)
