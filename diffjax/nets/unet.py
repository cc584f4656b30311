"""U-Net of DDPM (arXiv:2006.11239, app. B) for images (B, H, W, C) of any channel count."""

from __future__ import annotations

import functools
import itertools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.nets.conditioning import Conditions, with_map
from diffjax.nets.convolution import convolution
from diffjax.nets.layers import (
    NONE,
    Embedding,
    GroupNorm,
    Output,
    at_least,
    attention,
    outputs,
    zeros,
)
from diffjax.nets.network import Network, linen

Conv = functools.partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=convolution)
Image = Float[Array, "b h w _"]


class Block(nn.Module):
    """norm, silu, conv, + embedding, norm, silu, dropout, zero conv, + input."""

    channels: int
    dropout: float

    @nn.compact
    def __call__(self, x: Image, emb: Float[Array, "b e"], train: bool) -> Image:
        h = Conv(self.channels)(nn.silu(GroupNorm()(x)))
        h = h + nn.Dense(self.channels)(emb)[:, None, None]
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(GroupNorm()(h)))
        h = Conv(self.channels, kernel_init=zeros)(h)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, name="skip")(x)
        return x + h


class SelfAttention(nn.Module):
    """norm, attention over all positions, zero projection, + input."""

    heads: int

    @nn.compact
    def __call__(self, x: Image) -> Image:
        b, h, w, c = x.shape
        qkv = nn.Dense(3 * c, name="qkv")(GroupNorm()(x)).reshape(b, h * w, 3, self.heads, -1)
        out = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(b, h, w, c)
        return x + nn.Dense(c, kernel_init=zeros, name="out")(out)


def fold(x: Image, patch: int) -> Float[Array, "b _ _ _"]:
    """Squares of `patch` x `patch` pixels into channels: (B, H / patch, W / patch, patch^2 C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.swapaxes(2, 3).reshape(b, h // patch, w // patch, patch * patch * c)


def unfold(x: Image, patch: int) -> Float[Array, "b _ _ _"]:
    """The inverse of `fold`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2).swapaxes(2, 3)
    return x.reshape(b, h * patch, w * patch, c // patch**2)


class UNet(nn.Module):
    """Residual U-Net; the output starts at zero.

    channels: width of the first level. multipliers: width of each level, in `channels`. blocks:
    residual blocks per level (one more on the way up). attention: heights at which each block is
    followed by self-attention (the middle always has one). heads: attention heads. dropout: rate in
    the residual blocks. patch: side of the squares that are folded into channels first, so that the
    first level is smaller by it (arXiv:2301.11093, sec. 3.3). remat: compute blocks again in the
    backward pass, not store them. learn_variance: a second output like the first, for the variance
    of a step.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (8,)
    heads: int = 4
    conditions: Conditions = NONE
    dropout: float = 0.1
    patch: int = 1
    remat: bool = False
    learn_variance: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *d"],
        c_noise: Float[Array, " b"],
        cond: Cond | None,
        train: bool = False,
    ) -> Output:
        self._check(x.shape)
        cond = self.conditions.check(x, cond)
        channels_out = x.shape[-1] * self.patch**2
        x = fold(with_map(x, cond, self.conditions), self.patch)
        emb = Embedding(4 * self.channels, self.channels, self.conditions)(x, c_noise, cond)
        # Names that do not depend on remat: the same parameters serve with and without it.
        block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
        attend = nn.remat(SelfAttention) if self.remat else SelfAttention
        blocks, attentions = itertools.count(), itertools.count()

        def stage(x: Image, width: int, attention: bool | None = None) -> Image:
            x = block(width, self.dropout, name=f"Block_{next(blocks)}")(x, emb, train)
            here = x.shape[1] in self.attention if attention is None else attention
            if not here:
                return x
            return attend(self.heads, name=f"SelfAttention_{next(attentions)}")(x)

        x = Conv(self.channels)(x)
        skips = [x]
        for level, m in enumerate(self.multipliers):
            if level:
                x = Conv(x.shape[-1], strides=(2, 2))(x)
                skips.append(x)
            for _ in range(self.blocks):
                x = stage(x, m * self.channels)
                skips.append(x)
        width = self.multipliers[-1] * self.channels
        x = stage(stage(x, width, attention=True), width, attention=False)
        for level, m in reversed(list(enumerate(self.multipliers))):
            for _ in range(self.blocks + 1):
                x = stage(jnp.concatenate([x, skips.pop()], axis=-1), m * self.channels)
            if level:
                x = Conv(x.shape[-1])(x.repeat(2, axis=1).repeat(2, axis=2))
        x = nn.silu(GroupNorm()(x))
        return outputs(
            Conv(channels_out * (1 + self.learn_variance), kernel_init=zeros)(x),
            self.learn_variance,
            lambda a: unfold(a, self.patch),
        )

    def _check(self, shape: tuple[int, ...]) -> None:
        factor = self.patch * 2 ** (len(self.multipliers) - 1)
        if len(shape) != 4 or shape[1] % factor or shape[2] % factor:
            raise ValueError(
                f"unet with {len(self.multipliers)} levels, patch={self.patch} and input {shape}: "
                f"needs (B, H, W, C) with H and W divisible by {factor}; "
                f"change multipliers={self.multipliers}, patch, or the size of the images"
            )
        for m in self.multipliers:
            if m * self.channels % self.heads:
                raise ValueError(f"heads={self.heads}: must divide the width {m * self.channels}")


def unet(
    channels: int = 64,
    multipliers: tuple[int, ...] = (1, 2, 2),
    blocks: int = 2,
    attention: tuple[int, ...] = (8,),
    heads: int = 4,
    classes: int = 0,
    vector: int = 0,
    map: int = 0,
    dropout: float = 0.1,
    patch: int = 1,
    remat: bool = False,
    learn_variance: bool = False,
    dtype: str = "float32",
) -> Network:
    """Network of `UNet` with these settings; ValueError for one that is out of range.

    classes, vector, map: see `Conditions`. dtype: of its compute, float32 or bfloat16; parameters,
    input and output are float32.
    """
    at_least(1, channels=channels, blocks=blocks, heads=heads, patch=patch)
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"multipliers={multipliers}: needs at least one, each >= 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: needs 0 <= dropout < 1")
    module = UNet(
        channels=channels,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        heads=heads,
        conditions=Conditions(classes=classes, vector=vector, map=map),
        dropout=dropout,
        patch=patch,
        remat=remat,
        learn_variance=learn_variance,
    )
    return linen(module, dtype)
