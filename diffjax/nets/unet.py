"""A U-Net in one to three axes whose settings cover those of DDPM, DDPM++, NCSN++ and ADM."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.nets.blocks import (
    PLAIN,
    Block,
    CrossAttention,
    Grid,
    SelfAttention,
    Style,
    Transformer,
    conv,
)
from diffjax.nets.cards import Exchange
from diffjax.nets.conditions import Condition, Conditions
from diffjax.nets.factorised import Masks
from diffjax.nets.frames import TimeAttention, as_images
from diffjax.nets.layers import (
    NONE,
    Dense,
    Embedding,
    Output,
    outputs,
    zeros,
)
from diffjax.nets.network import Network, linen
from diffjax.nets.resample import check_kernel, downsample, filtered, upsample
from diffjax.nets.residuals import NOTHING, Pairs, Residuals, added, at
from diffjax.nets.unet_settings import check, check_shape, resized, settled_for


def fold(x: Grid, patch: int) -> Grid:
    """Fold squares (cubes) of side `patch` into channels: (B, H / patch, W / patch, patch^2 C)."""
    axes, (b, *sides, c) = x.ndim - 2, x.shape
    x = x.reshape(b, *(n for side in sides for n in (side // patch, patch)), c)
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(b, *(side // patch for side in sides), patch**axes * c)


def unfold(x: Grid, patch: int) -> Grid:
    """Unfold channels into squares (or cubes) of side `patch`: the inverse of `fold`."""
    axes, (b, *sides, c) = x.ndim - 2, x.shape
    x = x.reshape(b, *sides, *(patch,) * axes, c // patch**axes)
    pairs = (n for axis in range(1, axes + 1) for n in (axis, axis + axes))
    return x.transpose(0, *pairs, 2 * axes + 1).reshape(b, *(patch * n for n in sides), -1)


class UNet(nn.Module):
    """Residual U-Net on inputs (B, *D, C), one to three axes D; its output starts at zero.

    The defaults are DDPM's (arXiv:2006.11239, app. B), smaller; those of DDPM++ and NCSN++
    (arXiv:2011.13456), of ADM (arXiv:2105.05233), and of EDM's versions of them (arXiv:2206.00364,
    app. F) are in `ml_collections_configs/networks.py`.

    With `time_attention`, the inputs are videos (B, T, H, W, C): their frames are images, between
    which attention over time passes what they have in common (arXiv:2204.03458).

    channels: width of the first level. multipliers: width of each level, in `channels`. blocks:
    residual blocks per level (one more in the decoder). attention: heights at which each block is
    followed by self-attention (the middle always has one). heads: attention heads; or
    head_channels: channels per head. conditions: inputs besides x, as vectors, channels, a second
    time, or tokens, which are attended to after each self-attention. dropout: rate in the residual
    blocks. patch: side of the squares that are first folded into channels, so that the first level
    is smaller by this factor (arXiv:2301.11093, sec. 3.3). remat: recompute blocks in the backward
    pass instead of storing them. learn_variance: return a second output like the first, for the
    variance of a step.

    last_attends: in the decoder, only the last block of a level has attention. embedding: features
    of the noise label, see `Embedding`. early_conditions: conditions join the features before the
    layers of the embedding. resample: `conv`, strided and padded at the end, and in the decoder
    after the filter; `centred_conv`, padded on both sides; `filter` alone; `block`, a residual
    block around the filter, or `projected_block`, with a layer in its skip connection.
    input_pyramid: what is added at each smaller level: nothing (`none`), the input resampled to its
    size (`skip`), or the input carried from level to level by convolutions (`residual`).
    output_pyramid: `skip` sums an output of every level. transformer: number of transformer blocks
    per level, in place of plain attention (arXiv:2112.10752, sec. 3.3); the middle has that of the
    last level. time_attention: heights at which each block, also of the middle, is followed by
    attention over the frames at each place (`TimeAttention`). cards: the number of last frames that
    are no later moments of the video, but pictures of something else about it, such as its class.
    What they show is added to the embeddings of the other frames, and what those show to theirs
    (`Exchange`). style: see `Style`. half: return the outputs of the encoder, as the decoder reads
    them, and of the middle (`Network.encoder`).
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
    head_channels: int = 0
    last_attends: bool = False
    embedding: str = "ddpm"
    early_conditions: bool = False
    resample: str = "conv"
    input_pyramid: str = "none"
    output_pyramid: str = "none"
    transformer: tuple[int, ...] = ()
    time_attention: tuple[int, ...] = ()
    cards: int = 0
    style: Style = PLAIN
    half: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *d"],
        c_noise: Float[Array, "b ..."],
        cond: Cond | None,
        train: bool = False,
        residuals: Residuals = NOTHING,
        hint: Grid | None = None,
    ) -> Output | Residuals:
        check_shape(self, x.shape)
        cond, shape = self.conditions.check(x, cond), x.shape
        masks = (self.conditions.inside(x, cond), self.conditions.apart(x, cond))
        x = self.conditions.beside(x, cond)
        if self.time_attention:
            x, c_noise, cond = as_images(x, c_noise, cond, self.conditions)
        channels = shape[-1] * self.patch ** (x.ndim - 2) * (1 + self.learn_variance)
        x = fold(x, self.patch)
        embed = Embedding(
            4 * self.channels,
            self.channels,
            self.conditions,
            self.embedding,
            self.early_conditions,
        )
        emb = embed(x, c_noise, cond)
        if self.cards:
            emb = Exchange(shape[1], self.cards, name="exchange")(x, emb)
        tokens = self.conditions.sequence("cross", x, cond, emb.shape[-1])
        stage, move = self._parts(emb, tokens, train, residuals.context)
        if self.time_attention:
            stage = self._joined(stage, shape[1], masks)
        x, skips = self._encode(x, stage, move, residuals, hint)
        last = len(self.multipliers) - 1
        x = stage(stage(x, last, True), last, False)
        if self.half:
            return Residuals(skips=tuple(skips), middle=x)
        x = added(x, residuals.middle)
        skips = [added(skip, at(residuals.skips, i)) for i, skip in enumerate(skips)]
        x = self._decode(x, skips, channels, stage, move)
        return outputs(x, self.learn_variance, lambda a: unfold(a, self.patch).reshape(shape))

    def _parts(
        self, emb: Array, tokens: Any, train: bool, context: tuple[Pairs, ...]
    ) -> tuple[Callable, Callable]:
        """Return `stage(x, level, attend)`, a block with attention, and `move(x, way, level)`."""
        again: Any = nn.remat if self.remat else lambda module, **_: module
        block = again(Block, static_argnums=(3,))
        itself, across, transformer = map(again, (SelfAttention, CrossAttention, Transformer))
        # These names do not depend on remat, so the same parameters serve with and without it.
        blocks, attentions, further = itertools.count(), itertools.count(), iter(context)

        def stage(x: Grid, level: int, attend: bool) -> Grid:
            name, width = f"Block_{next(blocks)}", self.multipliers[level] * self.channels
            x = block(width, self.dropout, self.style, name=name)(x, emb, train)
            if not attend:
                return x
            heads = self._heads(width)
            n = next(attentions)
            if self.transformer:
                settings = (self.transformer[level], heads, self.style)
                more = tuple(itertools.islice(further, self.transformer[level]))
                return transformer(*settings, name=f"Transformer_{n}")(x, tokens, more)
            x = itself(heads, self.style, name=f"SelfAttention_{n}")(x)
            if tokens is None:
                return x
            more = next(further, ())
            return across(heads, self.style, name=f"CrossAttention_{n}")(x, *tokens, more)

        def move(x: Grid, way: str, level: int) -> Grid:
            if self.resample in ("block", "projected_block"):
                settings = (x.shape[-1], self.dropout, self.style, way)
                return block(*settings, name=f"{way}_{level}")(x, emb, train)
            if self.resample == "filter":
                return self.style.move(x, way)
            if way == "up":
                return self.style.move_conv(x, way, x.shape[-1])
            padding = 1 if self.resample == "centred_conv" else "SAME"
            return conv(x, x.shape[-1], 2, padding=padding)

        return stage, move

    def _heads(self, width: int) -> int:
        return width // self.head_channels if self.head_channels else self.heads

    def _joined(self, stage: Callable, frames: int, masks: Masks) -> Callable:
        """Return `stage` followed by attention over the frames of videos, at some heights."""
        numbers, layer = itertools.count(), nn.remat(TimeAttention) if self.remat else TimeAttention

        def joined(x: Grid, level: int, attend: bool) -> Grid:
            x = stage(x, level, attend)
            if x.shape[1] not in self.time_attention:
                return x
            name = f"TimeAttention_{next(numbers)}"
            settings = (self._heads(x.shape[-1]), frames, self.style, self.cards)
            return layer(*settings, name=name)(x, masks)

        return joined

    def _encode(
        self, x: Grid, stage: Callable, move: Callable, residuals: Residuals, hint: Grid | None
    ) -> tuple[Grid, list[Grid]]:
        """Return the smallest grid, and the grids of the skip connections to the decoder."""
        kernel, image = self.style.kernel, x
        x = added(conv(x, self.channels), hint)
        skips = [x]
        for level in range(len(self.multipliers)):
            if level:
                x = move(x, "down", level)
                name = f"input_{level}"
                if self.input_pyramid == "skip":
                    image = downsample(image, kernel)
                    x = x + Dense(x.shape[-1], name=name)(image)
                elif self.input_pyramid == "residual":
                    smooth = filtered(image, kernel, 1, len(kernel) // 2)
                    h = conv(smooth, x.shape[-1], 2, padding="VALID", name=name)
                    x = image = self.style.add(x, h)
                x = added(x, at(residuals.moved, level))
                skips.append(x)
            for i in range(self.blocks):
                x = stage(x, level, x.shape[1] in self.attention)
                if i == self.blocks - 1:
                    x = added(x, at(residuals.levels, level))
                skips.append(x)
        return x, skips

    def _decode(
        self, x: Grid, skips: list[Grid], channels: int, stage: Callable, move: Callable
    ) -> Grid:
        """Return the output of the last level, or the sum of the outputs of all levels."""
        total = None
        for level in reversed(range(len(self.multipliers))):
            here = x.shape[1] in self.attention
            for i in range(self.blocks + 1):
                attend = here and (i == self.blocks or not self.last_attends)
                x = stage(jnp.concatenate([x, skips.pop()], axis=-1), level, attend)
            if not level or self.output_pyramid == "skip":
                norm, last = (f"output_norm_{level}", f"output_{level}") if level else (None, None)
                out = nn.silu(self.style.norm(norm)(x))
                out = conv(out, channels, kernel_init=zeros, name=last)
                total = out if total is None else out + upsample(total, self.style.kernel)
            if level:
                x = move(x, "up", level)
        assert total is not None
        return total

    def lane(self, shape: tuple[int, ...]) -> int:
        """Return 1, a time per frame, for videos without a second time; else 0."""
        return int(bool(self.time_attention) and not self.conditions.by("time"))

    def resized(self, before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
        """Return the settings that change for items of another shape, see `Network`."""
        return resized(self, before, after)


def _network(module: UNet, dtype: str) -> Network:
    """Return the network of a module whose settings fit, with the half that controls copy."""
    check(module)
    network = linen(module, dtype)
    return dataclasses.replace(network, encoder=None) if module.time_attention else network


def unet(
    channels: int = 64,
    multipliers: tuple[int, ...] = (1, 2, 2),
    blocks: int = 2,
    attention: tuple[int, ...] = (8,),
    heads: int = 4,
    conditions: tuple[Condition, ...] = (),
    dropout: float = 0.1,
    patch: int = 1,
    remat: bool = False,
    learn_variance: bool = False,
    dtype: str = "float32",
    head_channels: int = 0,
    last_attends: bool = False,
    embedding: str = "ddpm",
    early_conditions: bool = False,
    resample: str = "conv",
    kernel: tuple[int, ...] = (1, 1),
    input_pyramid: str = "none",
    output_pyramid: str = "none",
    transformer: tuple[int, ...] = (),
    time_attention: tuple[int, ...] = (),
    cards: int = 0,
    scale_shift: bool = False,
    rescale: bool = False,
    epsilon: float = 1e-5,
    groups: int = 32,
) -> Network:
    """A residual U-Net, `UNet`; a setting that is out of range raises ValueError.

    The other settings are those of `UNet`. dtype: type of compute, float32 or bfloat16; parameters,
    input and output are float32. kernel: filter that changes the resolution: (1, 1) averages and
    repeats, (1, 3, 3, 1) is smooth. scale_shift, rescale, epsilon, groups: see `Style`.
    """
    projected = resample == "projected_block"
    style = Style(scale_shift, rescale, check_kernel(kernel), projected, epsilon, groups)
    module = UNet(
        channels=channels,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        heads=heads,
        conditions=settled_for(tuple(time_attention), conditions),
        dropout=dropout,
        patch=patch,
        remat=remat,
        learn_variance=learn_variance,
        head_channels=head_channels,
        last_attends=last_attends,
        embedding=embedding,
        early_conditions=early_conditions,
        resample=resample,
        input_pyramid=input_pyramid,
        output_pyramid=output_pyramid,
        transformer=tuple(transformer),
        time_attention=tuple(time_attention),
        cards=cards,
        style=style,
    )
    return _network(module, dtype)
