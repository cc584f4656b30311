"""Tiny autoencoders without norms, whose decoders are fast enough for previews (TAESD)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from diffjax.checks import positive
from diffjax.nets.autoencoder import Autoencoder, Image, assembled
from diffjax.nets.blocks import conv
from diffjax.nets.kernels.convolution import upsampled

LIMIT = 3.0
"""Latents are bounded to (-LIMIT, LIMIT) by tanh before they are decoded."""


class TinyBlock(nn.Module):
    """Residual block relu(x + three convolutions with relu between them)."""

    channels: int

    @nn.compact
    def __call__(self, x: Image) -> Image:
        h = x
        for i in range(3):
            h = conv(nn.relu(h) if i else h, self.channels, name=f"conv_{i}")
        return nn.relu(x + h)


class TinyEncoder(nn.Module):
    """Images (B, H, W, C) in [-1, 1] to latents (B, H / f, W / f, latent) without variance.

    The log-variance is -inf.
    """

    channels: int
    blocks: tuple[int, ...]
    latent: int

    @nn.compact
    def __call__(self, x: Image) -> tuple[Image, Image]:
        x = (x + 1) / 2
        for level, count in enumerate(self.blocks):
            # Padded on all sides, which "SAME" is not for even sides and stride 2.
            around: Any = {"stride": 2, "padding": 1, "use_bias": False} if level else {}
            x = conv(x, self.channels, name=f"down_{level}" if level else "first", **around)
            for i in range(count):
                x = TinyBlock(self.channels, name=f"block_{level}_{i}")(x)
        mean = conv(x, self.latent, name="last")
        return mean, jnp.full_like(mean, -jnp.inf)


class TinyDecoder(nn.Module):
    """Latents (B, h, w, latent) to images (B, h f, w f, out)."""

    channels: int
    blocks: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, z: Image) -> Image:
        x = nn.relu(conv(LIMIT * jnp.tanh(z / LIMIT), self.channels, name="first"))
        for level in reversed(range(len(self.blocks))):
            for i in range(self.blocks[level]):
                x = TinyBlock(self.channels, name=f"block_{level}_{i}")(x)
            if level:
                up = {"conv_general_dilated": upsampled, "use_bias": False}
                x = conv(x, self.channels, name=f"up_{level}", **up)
        return 2 * conv(x, self.out, name="last") - 1


def tiny(
    channels: int = 64,
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3),
    decoder_blocks: tuple[int, ...] = (1, 3, 3, 3),
    latent: int = 4,
    dtype: str = "float32",
) -> Autoencoder:
    """Return the autoencoder of TAESD (github.com/madebyollin/taesd; `AutoencoderTiny`).

    channels: width of all levels. encoder_blocks, decoder_blocks: residual blocks of each level,
    the first at the full resolution; each further level halves the sides. latent: channels of the
    latent. dtype: the type of the compute, float32 or bfloat16. Raises ValueError for settings that
    do not fit together.

    >>> tiny(channels=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1)).factor
    2
    """
    positive(channels=channels, latent=latent)
    if len(encoder_blocks) != len(decoder_blocks) or not encoder_blocks:
        raise ValueError(
            f"encoder_blocks={encoder_blocks}, decoder_blocks={decoder_blocks}: needs one number "
            f"for each level in both"
        )
    return assembled(
        TinyEncoder(channels, tuple(encoder_blocks), latent),
        TinyDecoder(channels, tuple(decoder_blocks), out=3),
        factor=2 ** (len(encoder_blocks) - 1),
        latent=latent,
        dtype=dtype,
    )
