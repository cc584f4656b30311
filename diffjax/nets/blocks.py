"""Parts of U-Nets: residual blocks and attention on grids of one to three axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from diffjax.nets.kernels.attention import attention
from diffjax.nets.kernels.convolution import convolution, upsampled
from diffjax.nets.layers import Dense, GroupNorm, zeros
from diffjax.nets.resample import Kernel, downsample, upsample
from diffjax.nets.residuals import Pairs

Grid = Float[Array, "b ... _"]


@dataclass(frozen=True)
class Style:
    """Settings in which the blocks of the published U-Nets differ.

    scale_shift: the embedding scales and shifts the output of the second norm (arXiv:2105.05233)
    instead of being added before that norm. rescale: sums are divided by sqrt(2) (arXiv:2011.13456,
    app. H). kernel: the filter that changes the resolution. project: a block that changes the
    resolution also has a layer in its skip connection. epsilon: the epsilon of the norms. groups:
    the largest number of groups of a norm.
    """

    scale_shift: bool = False
    rescale: bool = False
    kernel: Kernel = (1, 1)
    project: bool = False
    epsilon: float = 1e-5
    groups: int = 32

    def norm(self, name: str | None = None) -> nn.Module:
        return GroupNorm(self.groups, epsilon=self.epsilon, name=name)

    def add(self, x: Grid, h: Grid) -> Grid:
        return (x + h) * math.sqrt(0.5) if self.rescale else x + h

    def move(self, x: Grid, way: str) -> Grid:
        """Return x at half (`down`) or twice (`up`) the resolution, or unchanged (`keep`)."""
        if way == "keep":
            return x
        return (downsample if way == "down" else upsample)(x, self.kernel)

    def move_conv(self, x: Grid, way: str, features: int) -> Grid:
        """Apply `conv` to the result of `move`. It is called inside a module."""
        if way == "up" and self.kernel == (1, 1):
            return conv(x, features, conv_general_dilated=upsampled)
        return conv(self.move(x, way), features)


PLAIN = Style()


def conv(x: Grid, features: int, stride: int = 1, **settings: Any) -> Grid:
    """Convolve x with side 3 over all axes of the grid. It is called inside a module."""
    axes = x.ndim - 2
    settings = {"conv_general_dilated": convolution, **settings}
    return nn.Conv(features, (3,) * axes, (stride,) * axes, **settings)(x)


class Block(nn.Module):
    """Residual block: norm, silu, resample, conv, + embedding, norm, silu, dropout, conv, + input.

    The last convolution starts at zero. way: whether the block keeps (`keep`), halves (`down`) or
    doubles (`up`) the resolution.
    """

    channels: int
    dropout: float
    style: Style = PLAIN
    way: str = "keep"

    @nn.compact
    def __call__(self, x: Grid, emb: Float[Array, "b e"], train: bool) -> Grid:
        style = self.style
        h = style.move_conv(nn.silu(style.norm()(x)), self.way, self.channels)
        embedded = Dense(self.channels * (1 + style.scale_shift))(emb)
        embedded = embedded.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)
        if style.scale_shift:
            scale, shift = jnp.split(embedded, 2, axis=-1)
            h = nn.silu(style.norm()(h) * (1 + scale) + shift)
        else:
            h = nn.silu(style.norm()(h + embedded))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = conv(h, self.channels, kernel_init=zeros)
        x = style.move(x, self.way)
        if x.shape[-1] != self.channels or (style.project and self.way != "keep"):
            x = Dense(self.channels, name="skip")(x)
        return style.add(x, h)


def attended(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b m h d"],
    v: Float[Array, "b m h d"],
    there: Bool[Array, "b m"],
) -> Float[Array, "b l h d"]:
    """Return the attention to the keys that are present; it is zero for a sample without keys."""
    some = there.any(-1)
    out = attention(q, k, v, there | ~some[:, None])
    return jnp.where(some[:, None, None, None], out, 0)


def attended_further(
    out: Float[Array, "b l h d"], q: Float[Array, "b l h d"], further: Pairs
) -> Float[Array, "b l h d"]:
    """Return the result of an attention plus that to further keys and values (B, M, C)."""
    for k, v in further:
        k, v = (a.reshape(*a.shape[:2], *q.shape[2:]) for a in (k, v))
        out = out + attention(q, k, v)
    return out


class SelfAttention(nn.Module):
    """Self-attention block: norm, attention over all positions, zero projection, + input."""

    heads: int
    style: Style = PLAIN

    @nn.compact
    def __call__(self, x: Grid) -> Grid:
        b, c = x.shape[0], x.shape[-1]
        qkv = Dense(3 * c, name="qkv")(self.style.norm()(x))
        qkv = qkv.reshape(b, -1, 3, self.heads, c // self.heads)
        out = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(x.shape)
        return self.style.add(x, Dense(c, kernel_init=zeros, name="out")(out))


class CrossAttention(nn.Module):
    """Cross-attention block: norm, attention to tokens, zero projection, + input.

    The attention sees the tokens that are present (arXiv:2112.10752).
    """

    heads: int
    style: Style = PLAIN

    @nn.compact
    def __call__(
        self,
        x: Grid,
        tokens: Float[Array, "b m e"],
        there: Bool[Array, "b m"],
        further: Pairs = (),
    ) -> Grid:
        b, c = x.shape[0], x.shape[-1]
        q = Dense(c, name="q")(self.style.norm()(x)).reshape(b, -1, self.heads, c // self.heads)
        kv = Dense(2 * c, name="kv")(tokens).reshape(b, -1, 2, self.heads, c // self.heads)
        out = attended_further(attended(q, kv[:, :, 0], kv[:, :, 1], there), q, further)
        out = out.reshape(x.shape)
        return self.style.add(x, Dense(c, kernel_init=zeros, name="out")(out))


class Attention(nn.Module):
    """Attention of a sequence to itself or to other tokens; q, k and v have no bias.

    further: see `Residuals.context`.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l c"],
        tokens: Float[Array, "b m e"],
        there: Bool[Array, "b m"] | None = None,
        further: Pairs = (),
    ) -> Float[Array, "b l c"]:
        b, c = x.shape[0], x.shape[-1]

        def by_head(name: str, a: Array) -> Array:
            a = Dense(c, use_bias=False, name=name)(a)
            return a.reshape(b, -1, self.heads, c // self.heads)

        q, k, v = by_head("q", x), by_head("k", tokens), by_head("v", tokens)
        out = attention(q, k, v) if there is None else attended(q, k, v, there)
        out = attended_further(out, q, further)
        return Dense(c, name="out")(out.reshape(x.shape))


class Transformer(nn.Module):
    """Transformer on a grid: norm, layer, `depth` blocks, zero layer, + input (arXiv:2112.10752).

    A block computes x + self-attention(norm x), + cross-attention(norm x) where there are tokens, +
    feed-forward(norm x). The hidden layer of the feed-forward part has width 4 C and is gated by
    GELU (arXiv:2002.05202). further: for each block, see `Residuals.context`.
    """

    depth: int
    heads: int
    style: Style = PLAIN

    @nn.compact
    def __call__(
        self,
        x: Grid,
        context: tuple[Float[Array, "b m e"], Bool[Array, "b m"]] | None,
        further: tuple[Pairs, ...] = (),
    ) -> Grid:
        b, c = x.shape[0], x.shape[-1]
        h = Dense(c, name="in")(GroupNorm(self.style.groups, epsilon=1e-6)(x)).reshape(b, -1, c)
        for i in range(self.depth):
            norm = lambda name, h, i=i: nn.LayerNorm(epsilon=1e-5, name=f"{name}_norm_{i}")(h)
            u = norm("self", h)
            h = h + Attention(self.heads, name=f"self_{i}")(u, u)
            if context is not None:
                more = further[i] if further else ()
                h = h + Attention(self.heads, name=f"cross_{i}")(norm("cross", h), *context, more)
            u, gate = jnp.split(Dense(8 * c, name=f"mlp_in_{i}")(norm("mlp", h)), 2, -1)
            h = h + Dense(c, name=f"mlp_out_{i}")(u * nn.gelu(gate, approximate=False))
        return self.style.add(x, Dense(c, kernel_init=zeros, name="out")(h.reshape(x.shape)))
