"""Convolutional autoencoders: an encoder to the moments of a latent, and a decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, Params
from diffjax.checks import one_of, positive
from diffjax.nets.blocks import conv
from diffjax.nets.kernels.attention import attention
from diffjax.nets.kernels.convolution import upsampled
from diffjax.nets.layers import Dense, GroupNorm
from diffjax.nets.network import DTYPES, Network, splitting

Image = Float[Array, "b h w c"]
EPSILON = 1e-6
"""The epsilon of all norms (code of arXiv:2112.10752)."""


def unused(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("an autoencoder needs encode and decode")


@dataclass(frozen=True, repr=False)
class Autoencoder(Network):
    """An autoencoder: `encode` to mean and log-variance of a latent, and `decode` back.

    encode: `(params, x) -> (mean, logvar)`, both (B, H / factor, W / factor, latent), of images x
    (B, H, W, C). decode: `(params, z) -> x`. params: {"encoder": ..., "decoder": ...}. factor: the
    ratio of the sides of images and latents. latent: the number of channels of a latent. last: the
    path of the kernel of the last layer of the decoder among the parameters. As a network, it
    returns the reconstruction of the mean and ignores c_noise and conditions, so that the trainer,
    checkpoints and sharding treat it as any other network.

    >>> tiny = autoencoder(channels=8, multipliers=(1, 2), blocks=1, latent=2, groups=4)
    >>> x = jnp.zeros((1, 8, 8, 3))
    >>> params = tiny.init(jax.random.key(0), x, jnp.zeros(1), None)
    >>> mean, logvar = tiny.encode(params, x)
    >>> mean.shape, tiny.decode(params, mean).shape
    ((1, 4, 4, 2), (1, 8, 8, 3))
    """

    encode: Callable[[Params, Any], tuple[Any, Any]] = unused
    decode: Callable[[Params, Any], Any] = unused
    factor: int = 1
    latent: int = 4
    last: tuple[str, ...] = ("decoder", "last", "kernel")


def divergence(
    mean: Float[Array, "b *d z"], logvar: Float[Array, "b *d z"]
) -> Float[Array, "b *d z"]:
    """Return the KL divergence of N(mean, exp(logvar)) from N(0, 1) per value, in nats.

    >>> divergence(jnp.array([[2.0]]), jnp.array([[0.0]])).tolist()
    [[2.0]]
    """
    return (mean**2 + jnp.exp(logvar) - 1 - logvar) / 2


class ResidualBlock(nn.Module):
    """Residual block without an embedding: twice norm, silu and convolution, + input."""

    channels: int
    groups: int

    @nn.compact
    def __call__(self, x: Image) -> Image:
        h = x
        for i in range(2):
            h = nn.silu(GroupNorm(self.groups, 1, EPSILON, name=f"norm_{i}")(h))
            h = conv(h, self.channels, name=f"conv_{i}")
        if x.shape[-1] != self.channels:
            x = Dense(self.channels, name="skip")(x)
        return x + h


class Attention(nn.Module):
    """Self-attention over all places with one head: norm, attention, + input."""

    groups: int

    @nn.compact
    def __call__(self, x: Image) -> Image:
        b, c = x.shape[0], x.shape[-1]
        qkv = Dense(3 * c, name="qkv")(GroupNorm(self.groups, 1, EPSILON, name="norm")(x))
        qkv = qkv.reshape(b, -1, 3, 1, c)
        out = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(x.shape)
        return x + Dense(c, name="out")(out)


class Middle(nn.Module):
    """The blocks at the lowest resolution: block, attention where wanted, block."""

    groups: int
    attends: bool

    @nn.compact
    def __call__(self, x: Image) -> Image:
        x = ResidualBlock(x.shape[-1], self.groups, name="block_0")(x)
        if self.attends:
            x = Attention(self.groups, name="attention")(x)
        return ResidualBlock(x.shape[-1], self.groups, name="block_1")(x)


class Encoder(nn.Module):
    """Images (B, H, W, C) to mean and log-variance, each (B, H / f, W / f, latent).

    The log-variance is clipped to [-30, 20].
    """

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    latent: int
    attends: bool
    attention_levels: tuple[int, ...]
    quantised: bool
    groups: int

    @nn.compact
    def __call__(self, x: Image) -> tuple[Image, Image]:
        x = conv(x, self.channels, name="first")
        for level, multiplier in enumerate(self.multipliers):
            if level:
                # Padded at the end alone, which is what "SAME" means for even sides.
                x = conv(x, x.shape[-1], stride=2, name=f"down_{level}")
            for i in range(self.blocks):
                width = self.channels * multiplier
                x = ResidualBlock(width, self.groups, name=f"block_{level}_{i}")(x)
                if level in self.attention_levels:
                    x = Attention(self.groups, name=f"attention_{level}_{i}")(x)
        x = Middle(self.groups, self.attends, name="middle")(x)
        x = nn.silu(GroupNorm(self.groups, 1, EPSILON, name="norm")(x))
        x = conv(x, 2 * self.latent, name="last")
        x = Dense(2 * self.latent, name="quant")(x) if self.quantised else x
        mean, logvar = jnp.split(x, 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)


class Decoder(nn.Module):
    """Latents (B, h, w, latent) to images (B, h f, w f, C); it has one block more per level."""

    out: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attends: bool
    attention_levels: tuple[int, ...]
    quantised: bool
    groups: int

    @nn.compact
    def __call__(self, z: Image) -> Image:
        z = Dense(z.shape[-1], name="quant")(z) if self.quantised else z
        x = conv(z, self.channels * self.multipliers[-1], name="first")
        x = Middle(self.groups, self.attends, name="middle")(x)
        for level in reversed(range(len(self.multipliers))):
            for i in range(self.blocks + 1):
                width = self.channels * self.multipliers[level]
                x = ResidualBlock(width, self.groups, name=f"block_{level}_{i}")(x)
                if level in self.attention_levels:
                    x = Attention(self.groups, name=f"attention_{level}_{i}")(x)
            if level:
                up = {"conv_general_dilated": upsampled, "name": f"up_{level}"}
                x = conv(x, x.shape[-1], **up)
        x = nn.silu(GroupNorm(self.groups, 1, EPSILON, name="norm")(x))
        return conv(x, self.out, name="last")


@dataclass(frozen=True)
class _Init:
    encoder: nn.Module
    decoder: nn.Module

    def __repr__(self) -> str:
        return "Autoencoder"

    def __call__(
        self, key: Key[Array, ""], x: Image, c_noise: Any = None, cond: Cond | None = None
    ) -> Params:
        first, second = jax.random.split(key)
        (mean, _), encoder = self.encoder.init_with_output(first, x)
        decoder = self.decoder.clone(out=x.shape[-1]).init(second, mean)
        return cast(Params, {"encoder": encoder["params"], "decoder": decoder["params"]})


@dataclass(frozen=True)
class _Part:
    """The encoder or the decoder as a function of all parameters; results have the type of x."""

    name: str
    module: nn.Module
    dtype: str

    def __call__(self, params: Any, x: Image) -> Any:
        module = self.module
        if self.name == "decoder":
            module = module.clone(out=params["decoder"]["last"]["bias"].shape[0])
        cast_to = lambda tree: jax.tree.map(lambda a: a.astype(self.dtype), tree)
        with splitting(x.shape[0]):
            out = module.apply({"params": cast_to(params[self.name])}, cast_to(x))
        return jax.tree.map(lambda a: a.astype(x.dtype), out)


@dataclass(frozen=True)
class _Apply:
    encode: _Part
    decode: _Part

    def __call__(
        self, params: Any, x: Image, c_noise: Any = None, cond: Any = None, *, key: Any = None
    ) -> Image:
        return self.decode(params, self.encode(params, x)[0])


@dataclass(frozen=True)
class _Check:
    factor: int

    def __call__(self, x: Any, cond: Cond | None) -> None:
        if x.ndim != 4 or any(side % self.factor for side in x.shape[1:3]):
            raise ValueError(
                f"autoencoder: an image has the shape {x.shape[1:]}; needs sides that are "
                f"multiples of {self.factor}"
            )


def autoencoder(
    channels: int = 128,
    multipliers: tuple[int, ...] = (1, 2, 4, 4),
    blocks: int = 2,
    latent: int = 4,
    attention: bool = True,
    attention_levels: tuple[int, ...] = (),
    quantised: bool = False,
    groups: int = 32,
    dtype: str = "float32",
) -> Autoencoder:
    """Return the autoencoder of latent diffusion (arXiv:2112.10752, app. G; `AutoencoderKL`).

    Each level but the first halves the sides: (1, 2, 4, 4) has factor 8. channels: width of the
    first level. multipliers: width of each level, in `channels`. blocks: residual blocks per level
    of the encoder; the decoder has one more. latent: channels of the latent. attention: whether the
    middle attends, with one head. attention_levels: levels whose blocks attend as well, 0 the
    highest resolution, such as the last of five in VA-VAE. quantised: whether the last layer of the
    encoder and the first of the decoder are a linear map of channels, as in Stable Diffusion 1 and
    2. groups: groups of each norm. dtype: the type of the compute, float32 or bfloat16; float16
    overflows in published decoders. Raises ValueError for settings that do not fit together.

    >>> autoencoder(channels=32, multipliers=(1, 2, 4)).factor
    4
    """
    positive(channels=channels, blocks=blocks, latent=latent, groups=groups)
    one_of(DTYPES, dtype=dtype)
    if not multipliers or any(m < 1 or channels * m % groups for m in multipliers):
        raise ValueError(
            f"multipliers={multipliers}: needs widths, here {channels} times these, that are "
            f"multiples of groups={groups}"
        )
    multipliers, attention_levels = tuple(multipliers), tuple(attention_levels)
    if absent := [level for level in attention_levels if level not in range(len(multipliers))]:
        raise ValueError(
            f"attention_levels={attention_levels}: {absent[0]} is no level; needs numbers below "
            f"{len(multipliers)}"
        )
    widths = {"channels": channels, "multipliers": multipliers, "blocks": blocks}
    common: dict[str, Any] = {**widths, "quantised": quantised, "groups": groups}
    common["attention_levels"] = attention_levels
    return assembled(
        Encoder(**common, latent=latent, attends=attention),
        Decoder(**common, out=3, attends=attention),
        factor=2 ** (len(multipliers) - 1),
        latent=latent,
        dtype=dtype,
    )


def assembled(
    encoder: nn.Module, decoder: nn.Module, *, factor: int, latent: int, dtype: str = "float32"
) -> Autoencoder:
    """Return the autoencoder of two modules.

    encoder: images (B, H, W, C) to mean and log-variance. decoder: latents to images, with a field
    `out`, the number of their channels, which the data or the weights replace; its last layer is
    called `last` and has a bias. factor, latent: see `Autoencoder`. dtype: the type of the compute,
    float32 or bfloat16. Raises ValueError for another type.
    """
    one_of(DTYPES, dtype=dtype)
    encode, decode = _Part("encoder", encoder, dtype), _Part("decoder", decoder, dtype)
    return Autoencoder(
        init=_Init(encoder, decoder),
        apply=_Apply(encode, decode),
        check=_Check(factor),
        encode=encode,
        decode=decode,
        factor=factor,
        latent=latent,
    )


def folded(network: Autoencoder, side: int) -> Autoencoder:
    """Return the autoencoder with squares of places of its latents folded into channels.

    side: that of a square. Channel (c, dy, dx) holds channel c of place (dy, dx), as in Flux.2.

    >>> tiny = autoencoder(channels=8, multipliers=(1, 2), blocks=1, latent=2, groups=4)
    >>> folded(tiny, 2).factor, folded(tiny, 2).latent
    (4, 8)
    """
    encode, decode = _Folding(network.encode, side), _Unfolding(network.decode, side)
    return replace(
        network,
        check=_Check(network.factor * side),
        encode=encode,
        decode=decode,
        factor=network.factor * side,
        latent=network.latent * side**2,
    )


@dataclass(frozen=True)
class _Folding:
    encode: Callable[[Params, Any], tuple[Any, Any]]
    side: int

    def __call__(self, params: Any, x: Image) -> Any:
        return jax.tree.map(self.fold, self.encode(params, x))

    def fold(self, z: Image) -> Image:
        b, h, w, c = z.shape
        z = z.reshape(b, h // self.side, self.side, w // self.side, self.side, c)
        return z.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // self.side, w // self.side, -1)


@dataclass(frozen=True)
class _Unfolding:
    decode: Callable[[Params, Any], Any]
    side: int

    def __call__(self, params: Any, z: Image) -> Image:
        b, h, w, _ = z.shape
        z = z.reshape(b, h, w, -1, self.side, self.side).transpose(0, 1, 4, 2, 5, 3)
        return self.decode(params, z.reshape(b, h * self.side, w * self.side, -1))
