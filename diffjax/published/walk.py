"""The parts of our U-Net in the order of its forward pass, for tables of parameter names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffjax.published.tables import Table, conv, norm


@dataclass(frozen=True)
class Step:
    """A part of our U-Net: `first`, `encoder`, `down`, `middle`, `decoder`, `up` or `last`.

    i: its number within the level. skip: whether its skip connection has a layer. attention: name
    of the attention of the block, or "". heads: number of heads of this attention.
    """

    kind: str
    ours: str
    level: int = 0
    i: int = 0
    skip: bool = False
    attention: str = ""
    heads: int = 1


def walk(settings: Mapping[str, Any], size: int) -> Iterator[Step]:
    """Iterate over the parts in the order of the forward pass.

    Each level with an output has a part `last`.
    """
    widths = [m * settings["channels"] for m in settings["multipliers"]]
    counts = {"Block": 0, "SelfAttention": 0, "Conv": 1}

    def count(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{counts[kind] - 1}"

    def block(kind: str, level: int, i: int, width: int, attends: bool) -> Step:
        attention = count("SelfAttention") if attends else ""
        heads = settings.get("heads", 1)
        if each := settings.get("head_channels", 0):
            heads = widths[level] // each
        return Step(kind, count("Block"), level, i, width != widths[level], attention, heads)

    def move(kind: str, level: int) -> Step:
        if settings.get("resample", "conv").endswith("conv"):
            return Step(kind, count("Conv"), level)
        project = settings.get("resample") == "projected_block"
        return Step(kind, f"{kind}_{level}", level, skip=project)

    here = [size >> level in settings["attention"] for level in range(len(widths))]
    yield Step("first", "Conv_0")
    width, skips = settings["channels"], [settings["channels"]]
    for level in range(len(widths)):
        if level:
            yield move("down", level)
            skips.append(width)
        for i in range(settings["blocks"]):
            yield block("encoder", level, i, width, here[level])
            width = widths[level]
            skips.append(width)
    for i in range(2):
        yield block("middle", len(widths) - 1, i, width, not i)
    for level in reversed(range(len(widths))):
        for i in range(settings["blocks"] + 1):
            last = i == settings["blocks"] or not settings.get("last_attends")
            yield block("decoder", level, i, width + skips.pop(), here[level] and last)
            width = widths[level]
        if level and settings.get("output_pyramid") == "skip":
            yield Step("last", f"_{level}", level)
        if level:
            yield move("up", level)
    yield Step("last", f"Conv_{counts['Conv']}")


def head(step: Step, norm_name: str, conv_name: str) -> Table:
    """Return the entries of the norm and the convolution of an output."""
    if step.level:
        ours = (f"output_norm_{step.level}", f"output_{step.level}")
    else:
        ours = ("GroupNorm_0", step.ours)
    return norm(ours[0], norm_name) | conv(ours[1], conv_name)
