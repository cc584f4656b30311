"""EDM2's U-Net, whose activations, weights and updates keep their magnitude (arXiv:2312.02696)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond, Params
from diffjax.checks import at_least, within
from diffjax.nets.blocks import Grid
from diffjax.nets.conditions import Condition, Conditions, settled
from diffjax.nets.kernels.attention import attention
from diffjax.nets.kernels.convolution import convolution
from diffjax.nets.layers import NONE, Output, at_sides, outputs
from diffjax.nets.magnitude import normalize
from diffjax.nets.network import Network, linen
from diffjax.nets.resample import Kernel, check_kernel, downsample, upsample

MECHANISMS = ("unit", "beside", "time")


def mp_silu(x: Array) -> Array:
    """Return silu(x) / 0.596 (eq. 81)."""
    return nn.silu(x) / 0.596


def mp_sum(a: Array, b: Array, t: float = 0.5) -> Array:
    """Return ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2) (eq. 88)."""
    return (a + t * (b - a)) / math.hypot(1 - t, t)


def mp_cat(a: Array, b: Array, t: float = 0.5) -> Array:
    """Concatenate a and b, weighted 1 - t to t whatever their numbers of channels (eq. 103)."""
    n, m = a.shape[-1], b.shape[-1]
    c = math.sqrt(n + m) / math.hypot(1 - t, t)
    return jnp.concatenate([c * (1 - t) / math.sqrt(n) * a, c * t / math.sqrt(m) * b], axis=-1)


class MPConv(nn.Module):
    """Layer gain * (w / |w|) * x without bias; each output channel's weight has norm 1 (eq. 47).

    side: side of the convolution; 0 for a dense layer on the last axis. gain: whether the gain is
    learned, starting at 0; otherwise it is 1.
    """

    features: int
    side: int = 0
    gain: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b *c"]) -> Float[Array, "b *e"]:
        axes = x.ndim - 2 if self.side else 0
        shape = (*(self.side,) * axes, x.shape[-1], self.features)
        w = self.param("weight", nn.initializers.normal(1.0), shape)
        w = normalize(w.astype(jnp.float32), tuple(range(len(shape) - 1)))
        gain = self.param("gain", nn.initializers.zeros, ()) if self.gain else 1.0
        w = (w * (gain / math.sqrt(math.prod(shape[:-1])))).astype(x.dtype)
        return convolution(x, w, (1,) * axes, "SAME") if axes else x @ w


class MPFourier(nn.Module):
    """Features sqrt(2) cos(2 pi (f c_noise + phase)), f from N(0, 1), without training (eq. 75)."""

    width: int

    @nn.compact
    def __call__(self, c_noise: Float[Array, " b"]) -> Float[Array, "b w"]:
        f = self.param("frequencies", nn.initializers.normal(1.0), (self.width,))
        phase = self.param("phases", nn.initializers.uniform(1.0), (self.width,))
        f, phase = jax.lax.stop_gradient((2 * jnp.pi * f, 2 * jnp.pi * phase))
        return jnp.cos(c_noise[:, None] * f[None] + phase[None]) * math.sqrt(2)


class MPEmbedding(nn.Module):
    """Embedding of noise label and conditions, (B, width); a missing condition is the zero vector.

    balance: the weight of the conditions against the noise label, from 0 (noise label alone) to 1.
    """

    width: int
    frequencies: int
    conditions: Conditions
    balance: float = 0.5

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *d"], c_noise: Float[Array, " b"], cond: Cond
    ) -> Float[Array, "b w"]:
        features = MPFourier(self.frequencies, name="fourier")
        h = MPConv(self.width, name="noise")(features(c_noise).astype(x.dtype))
        units = self.conditions.units(x, cond)
        if parts := [MPConv(self.width, name=name)(unit) for name, unit in units.items()]:
            h = mp_sum(h, sum(parts[1:], parts[0]) / math.sqrt(len(parts)), self.balance)
        change = self.conditions.change(features, c_noise, cond, self.is_initializing())
        if change is not None:
            h = h + MPConv(self.width, gain=True, name="to")(change.astype(x.dtype))
        return mp_silu(h)


class MPBlock(nn.Module):
    """Block of fig. 21: resample, pixel norm (encoder only), residual branch, attention, clipping.

    The output is clipped to [-256, 256]. way: whether the block keeps (`keep`), halves (`down`) or
    doubles (`up`) the resolution. heads: number of attention heads, 0 for no attention.
    """

    channels: int
    decoder: bool
    heads: int
    dropout: float
    kernel: Kernel = (1, 1)
    way: str = "keep"
    balance: float = 0.3

    @nn.compact
    def __call__(self, x: Grid, emb: Float[Array, "b e"], train: bool) -> Grid:
        if self.way != "keep":
            x = (downsample if self.way == "down" else upsample)(x, self.kernel)
        around = MPConv(self.channels, 1, name="skip") if x.shape[-1] != self.channels else None
        if not self.decoder:
            x = normalize(around(x) if around else x, (-1,))
        h = MPConv(self.channels, 3, name="conv_0")(mp_silu(x))
        gain = MPConv(self.channels, gain=True, name="embedding")(emb) + 1
        h = mp_silu(h * gain.reshape(x.shape[0], *(1,) * (x.ndim - 2), -1))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = MPConv(self.channels, 3, name="conv_1")(h)
        if self.decoder and around:
            x = around(x)
        x = mp_sum(x, h, self.balance)
        if self.heads:
            x = mp_sum(x, self._attend(x), self.balance)
        return jnp.clip(x, -256, 256)

    def _attend(self, x: Grid) -> Grid:
        """Return the cosine attention of x: queries, keys and values have pixel norm per head."""
        b, c = x.shape[0], x.shape[-1]
        qkv = MPConv(3 * c, 1, name="qkv")(x).reshape(b, -1, 3, self.heads, c // self.heads)
        qkv = normalize(qkv, (-1,))
        out = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return MPConv(c, 1, name="out")(out.reshape(x.shape))


class EDM2(nn.Module):
    """The U-Net of fig. 21, config G; its output starts at zero. `edm2` describes its settings."""

    channels: int = 192
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (16, 8)
    head_channels: int = 64
    conditions: Conditions = NONE
    dropout: float = 0.0
    kernel: Kernel = (1, 1)
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
        cond, out_channels = self.conditions.check(x, cond), x.shape[-1] * (1 + self.learn_variance)
        widths = [m * self.channels for m in self.multipliers]
        emb = MPEmbedding(max(widths), widths[0], self.conditions)(x, c_noise, cond)
        again: Any = nn.remat if self.remat else lambda module, **_: module
        block, count = again(MPBlock, static_argnums=(3,)), itertools.count()

        def stage(x: Grid, width: int, decoder: bool, attend: bool, way: str = "keep") -> Grid:
            heads = width // self.head_channels if attend else 0
            settings = (width, decoder, heads, self.dropout, self.kernel, way)
            return block(*settings, name=f"Block_{next(count)}")(x, emb, train)

        x = self.conditions.beside(x, cond)
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        x = MPConv(widths[0], 3, name="first")(x)
        skips = [x]
        for level, width in enumerate(widths):
            if level:
                x = stage(x, x.shape[-1], False, False, "down")
                skips.append(x)
            for _ in range(self.blocks):
                x = stage(x, width, False, x.shape[1] in self.attention)
                skips.append(x)
        x = stage(stage(x, widths[-1], True, True), widths[-1], True, False)
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(self.blocks + 1):
                x = stage(mp_cat(x, skips.pop()), width, True, x.shape[1] in self.attention)
            if level:
                x = stage(x, width, True, False, "up")
        return outputs(MPConv(out_channels, 3, gain=True, name="last")(x), self.learn_variance)

    def _check(self, shape: tuple[int, ...]) -> None:
        factor = 2 ** (len(self.multipliers) - 1)
        if not 3 <= len(shape) <= 5 or any(n % factor for n in shape[1:-1]):
            raise ValueError(
                f"edm2 with {len(self.multipliers)} levels and input {shape}: needs (B, H, W, C), "
                f"or one or three sides, each divisible by {factor}; "
                f"change multipliers={self.multipliers}, or the size of the images"
            )
        at_sides(shape[1], len(self.multipliers), shape, attention=self.attention)


def normalized(params: Params) -> Params:
    """Return parameters of `edm2` with unit-magnitude weights: forced normalization (eq. 66).

    The network normalises its weights itself, so its output does not change. The gradient is
    orthogonal to the weights, so each training step lengthens them, and the next step then turns
    them by a smaller angle. Normalising after every step bounds the weights and keeps the effective
    learning rate.
    """

    def one(path: tuple[Any, ...], w: Array) -> Array:
        return normalize(w, tuple(range(w.ndim - 1))) if path[-1].key == "weight" else w

    return jax.tree_util.tree_map_with_path(one, params)


def edm2(
    channels: int = 192,
    multipliers: tuple[int, ...] = (1, 2, 3, 4),
    blocks: int = 3,
    attention: tuple[int, ...] = (16, 8),
    head_channels: int = 64,
    conditions: tuple[Condition, ...] = (),
    dropout: float = 0.0,
    kernel: tuple[int, ...] = (1, 1),
    remat: bool = False,
    learn_variance: bool = False,
    dtype: str = "float32",
) -> Network:
    """The U-Net `EDM2` (arXiv:2312.02696); a setting that is out of range raises ValueError.

    The defaults are EDM2-S; XS has 128 channels, M 256, L 320, XL 384, XXL 448. The input is
    (B, *D, C) with one to three axes D. After each training step the weights are `normalized`.
    channels: width of the first level. multipliers: width of each level, in `channels`. blocks:
    blocks per level (one more in the decoder). attention: heights at which each block has attention
    (the middle always has). head_channels: channels per head. conditions: inputs besides x, as
    vectors of unit magnitude, channels or a second time. dropout: rate in the blocks. kernel: the
    filter that changes the resolution. remat: recompute blocks in the backward pass instead of
    storing them. learn_variance: return a second output like the first, for the variance of a step.
    dtype: the type of the compute, float32 or bfloat16.

    >>> edm2(channels=128, head_channels=64)  # EDM2-XS
    Network(EDM2)
    """
    at_least(1, channels=channels, blocks=blocks, head_channels=head_channels)
    if not multipliers or min(multipliers) < 1:
        raise ValueError(f"multipliers={multipliers}: needs at least one, each >= 1")
    for m in multipliers:
        if m * channels % head_channels:
            raise ValueError(f"head_channels={head_channels}: must divide the width {m * channels}")
    within(0, 1, "[)", dropout=dropout)
    module = EDM2(
        channels=channels,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        head_channels=head_channels,
        conditions=settled(conditions, "edm2", MECHANISMS),
        dropout=dropout,
        kernel=check_kernel(kernel),
        remat=remat,
        learn_variance=learn_variance,
    )
    return linen(module, dtype, normalized)
