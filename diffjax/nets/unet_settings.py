"""The settings of a U-Net: what each allows, which fit each other, and which inputs they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffjax.checks import at_least, one_of, positive, within
from diffjax.nets.conditions import Condition, Conditions, settled
from diffjax.nets.conditions.base import kind
from diffjax.nets.layers import EMBEDDINGS, VECTORS, at_sides

if TYPE_CHECKING:
    from diffjax.nets.unet import UNet

RESAMPLE = ("conv", "centred_conv", "filter", "block", "projected_block")
INPUTS, OUTPUTS = ("none", "skip", "residual"), ("none", "skip")
UNCARDED = ("length", "still")
"""Kinds of conditions of videos that have no cards."""
MECHANISMS = (*VECTORS, "cross", "beside")


def settled_for(time_attention: tuple[int, ...], conditions: tuple[Condition, ...]) -> Conditions:
    """Return the conditions with the mechanisms that a network of images or videos supports."""
    return settled(conditions, "unet", (*MECHANISMS, *(["apart"] if time_attention else [])))


def check(module: UNet) -> None:
    """Raise ValueError for settings that are out of range, or do not fit each other."""
    at_least(1 if module.embedding == "fourier" else 2, channels=module.channels)
    at_least(1, blocks=module.blocks, patch=module.patch, groups=module.style.groups)
    positive(epsilon=module.style.epsilon)
    at_least(0, head_channels=module.head_channels)
    at_least(0 if module.head_channels else 1, heads=module.heads)
    if not module.multipliers or min(module.multipliers) < 1:
        raise ValueError(f"multipliers={module.multipliers}: needs at least one, each >= 1")
    _check_heads(module)
    within(0, 1, "[)", dropout=module.dropout)
    one_of(EMBEDDINGS, embedding=module.embedding)
    one_of(RESAMPLE, resample=module.resample)
    one_of(INPUTS, input_pyramid=module.input_pyramid)
    one_of(OUTPUTS, output_pyramid=module.output_pyramid)
    layers, levels = module.transformer, len(module.multipliers)
    if layers and (len(layers) != levels or min(layers) < 1):
        raise ValueError(f"transformer={layers}: needs a number >= 1 for each of {levels} levels")
    _check_cards(module)


def _check_cards(module: UNet) -> None:
    """Raise ValueError for cards without videos, or of videos whose frames are not all there."""
    at_least(0, cards=module.cards)
    if module.cards and not module.time_attention:
        raise ValueError(f"cards={module.cards}: needs time_attention, such as (8, 4)")
    names = [entry.name for entry in module.conditions.entries if kind(entry) in UNCARDED]
    if module.cards and names:
        raise ValueError(
            f"cards={module.cards}: not with the condition {names[0]!r}, for which the last frames "
            f"are no cards; allowed: cards=0"
        )


def resized(module: UNet, before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
    """Return the settings that keep self-attention on its levels for items of another shape.

    Raises ValueError for sides that the levels do not divide.
    """
    levels = range(len(module.multipliers))
    divisor = module.patch * 2 ** (len(levels) - 1)
    if any(n % divisor for n in after[:-1]):
        raise ValueError(f"items {after}: needs sides that {divisor} divides")
    sides = [(before[0] // module.patch >> k, after[0] // module.patch >> k) for k in levels]
    return {"attention": tuple(b for a, b in sides if a in module.attention)}


def _check_heads(module: UNet) -> None:
    """Raise ValueError for heads that do not divide each width, into pairs for positions."""
    name = "head_channels" if module.head_channels else "heads"
    part = module.head_channels or module.heads
    for m in module.multipliers:
        width = m * module.channels
        if width % part:
            raise ValueError(f"{name}={part}: must divide the width {width}")
        each = module.head_channels or width // module.heads
        if module.time_attention and each % 2:
            asked = f"time_attention={module.time_attention} with {name}={part}"
            raise ValueError(f"{asked}: needs an even number of channels per head, not {each}")


def check_shape(module: UNet, shape: tuple[int, ...]) -> None:
    """Raise ValueError for inputs of a shape that does not fit the settings."""
    videos, levels = bool(module.time_attention), len(module.multipliers)
    if videos and len(shape) != 5:
        asked = f"unet with time_attention={module.time_attention} and input {shape}"
        raise ValueError(f"{asked}: needs (B, T, H, W, C)")
    if module.cards and shape[1] <= module.cards:
        raise ValueError(
            f"unet with cards={module.cards} and input {shape}: needs at least "
            f"{module.cards + 1} frames, not {shape[1]}"
        )
    factor, sides = module.patch * 2 ** (levels - 1), shape[1 + videos : -1]
    if not 1 <= len(sides) <= 3 or any(n % factor for n in sides):
        raise ValueError(
            f"unet with {levels} levels, patch={module.patch} and input {shape}: "
            f"needs (B, H, W, C), or one or three sides, each divisible by {factor}; "
            f"change multipliers={module.multipliers}, patch, or the size of the images"
        )
    settings = {name: getattr(module, name) for name in ("attention", "time_attention")}
    at_sides(sides[0] // module.patch, levels, shape, **settings)
