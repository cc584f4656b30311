"""The interface of codecs: normalised latents of images, and images of latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import Params, pytree
from diffjax.files import reason
from diffjax.nets.autoencoder import Autoencoder

Image = Float[Array, "b h w c"]
Latent = Float[Array, "b h w z"]


def channels(value: Any, x: Latent) -> Any:
    """Return a number, or one for each channel, with as many axes as x."""
    return jnp.asarray(value).reshape(*(1,) * (x.ndim - 1), -1) if jnp.ndim(value) else value


@pytree
@dataclass(frozen=True)
class Normalisation:
    """The affine map z = std (r - centre) / scale of raw latents r to those of networks.

    centre, scale: one number, or one for each channel (Z,). std: the deviation of the result where
    those of the raw latents are `scale`, such as 0.5 for EDM2.

    >>> sd = Normalisation(scale=1 / 0.18215)  # Stable Diffusion 1
    >>> round(float(sd(jnp.ones(()))), 5), float(sd.inverse(sd(jnp.ones(()))))
    (0.18215, 1.0)
    """

    centre: Any = 0.0
    scale: Any = 1.0
    std: float = 1.0

    def __call__(self, raw: Latent) -> Latent:
        """Return normalised latents."""
        return (raw - channels(self.centre, raw)) * (self.std / channels(self.scale, raw))

    def inverse(self, z: Latent) -> Latent:
        """Return raw latents."""
        return z * (channels(self.scale, z) / self.std) + channels(self.centre, z)


@pytree
@dataclass(frozen=True)
class Codec:
    """An autoencoder with its weights and the normalisation of its latents.

    Only normalised latents leave a codec, and it accepts no others. Images are in [-1, 1]; an
    autoencoder that was trained on pixels in [low, 1] receives and returns those. fingerprint: 12
    hex digits of the weights and the normalisation. about: where they come from.

    >>> from diffjax import codecs
    >>> codec = codecs.load("pixels")
    >>> codec.decode(codec.encode(jnp.ones((1, 8, 8, 3)))).shape
    (1, 8, 8, 3)
    """

    params: Params
    normalisation: Normalisation = Normalisation()
    network: Autoencoder = field(metadata={"static": True}, kw_only=True)
    low: float = field(default=-1.0, metadata={"static": True})
    fingerprint: str = field(default="", metadata={"static": True})
    about: str = field(default="", metadata={"static": True})

    def moments(self, x: Image) -> tuple[Latent, Latent]:
        """Return mean and standard deviation of the normalised latents of images in [-1, 1]."""
        low = self.low
        x = x if low == -1 else (x + 1) * (1 - low) / 2 + low  # bit-for-bit where it is [-1, 1]
        mean, logvar = self.network.encode(self.params, x)
        rule = self.normalisation
        return rule(mean), jnp.exp(0.5 * logvar) * abs(rule.std / channels(rule.scale, mean))

    def encode(self, x: Image, noise: Latent | None = None) -> Latent:
        """Return latents of images: mean + std * noise, or the mean."""
        mean, std = self.moments(x)
        return mean if noise is None else mean + std * noise

    def decode(self, z: Latent) -> Image:
        """Return the images of latents, about in [-1, 1]; they are not clipped."""
        low = self.low
        x = self.network.decode(self.params, self.normalisation.inverse(z))
        return x if low == -1 else 2 * (x - low) / (1 - low) - 1

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (h, w, Z) of the latent of an image (H, W, C).

        Raises ValueError for images that the codec cannot encode, or returns in another shape.
        """
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        try:
            latent = tuple(jax.eval_shape(self.encode, x).shape[1:])
        except Exception as error:  # of any part of the network that meets the wrong shape
            raise ValueError(f"does not encode images {shape} ({reason(error)})") from error
        if (again := self.image_shape(latent)) != tuple(shape):
            raise ValueError(f"returns images {again} for images {shape}")
        return latent

    def image_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (H, W, C) of the image of a latent (h, w, Z)."""
        z = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return tuple(jax.eval_shape(self.decode, z).shape[1:])
