"""Tables for score_sde's networks in Flax, which numbers the parts of each kind."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.io.trees import some
from diffjax.published.tables import Layout, Table, same, stacked
from diffjax.published.walk import walk


def table(settings: Mapping[str, Any], size: int) -> Table:
    """Return the table for a network with these settings, and images of side `size`."""
    big = settings["resample"] == "projected_block"
    block, attention = ("BigGANpp", "AttnBlockpp") if big else ("DDPM", "AttnBlock")
    counts: dict[str, int] = {}

    def count(kind: str) -> str:
        counts[kind] = counts.get(kind, -1) + 1
        return f"{kind}_{counts[kind]}"

    def plain(ours: str, theirs: str, layout: Layout = same) -> Table:
        """Return the entries of a layer or convolution that is in our layout already."""
        kernel, bias = (f"{theirs}.kernel", f"{theirs}.bias")
        return {f"{ours}/kernel": (layout, kernel), f"{ours}/bias": (same, bias)}

    pointwise = functools.partial(plain, layout=lambda w: w[0, 0])

    def rescaled(ours: str, theirs: str) -> Table:
        return {f"{ours}/{leaf}": (same, f"{theirs}.{leaf}") for leaf in ("scale", "bias")}

    entries: Table = {}
    if settings["embedding"] == "fourier":
        entries["Embedding_0/fourier/frequencies"] = (same, "GaussianFourierProjection_0.W")
    for i in range(2):
        entries |= plain(f"Embedding_0/Dense_{i}", f"Dense_{i}")
    for step in walk(settings, size):
        if step.kind == "first":
            entries |= plain(step.ours, count("Conv"))
        elif step.kind == "last":
            n = step.level
            ours = (f"output_norm_{n}", f"output_{n}") if n else ("GroupNorm_0", step.ours)
            entries |= rescaled(ours[0], count("GroupNorm")) | plain(ours[1], count("Conv"))
        elif step.ours.startswith("Conv"):
            move = "Downsample" if step.kind == "down" else "Upsample"
            entries |= plain(step.ours, f"{count(move)}.Conv_0")
        else:
            theirs = count(f"ResnetBlock{block}")
            for i in range(2):
                entries |= rescaled(f"{step.ours}/GroupNorm_{i}", f"{theirs}.GroupNorm_{i}")
                entries |= plain(f"{step.ours}/Conv_{i}", f"{theirs}.Conv_{i}")
            entries |= plain(f"{step.ours}/Dense_0", f"{theirs}.Dense_0")
            if step.skip and big:
                entries |= pointwise(f"{step.ours}/skip", f"{theirs}.Conv_2")
            elif step.skip:
                entries |= _nin(f"{step.ours}/skip", f"{theirs}.NIN_0")
            if step.attention:
                theirs = count(attention)
                entries |= rescaled(f"{step.attention}/GroupNorm_0", f"{theirs}.GroupNorm_0")
                entries |= _nin(f"{step.attention}/qkv", *(f"{theirs}.NIN_{i}" for i in range(3)))
                entries |= _nin(f"{step.attention}/out", f"{theirs}.NIN_3")
        if step.kind == "down" and settings["input_pyramid"] == "residual":
            theirs = f"{count('Downsample')}.Conv2d_0"
            entries[f"input_{step.level}/kernel"] = (same, f"{theirs}.weight")
            entries[f"input_{step.level}/bias"] = (same, f"{theirs}.bias")
        elif step.kind == "down" and settings["input_pyramid"] == "skip":
            entries |= pointwise(f"input_{step.level}", f"{count('Combine')}.Conv_0")
    return entries


def _nin(ours: str, *theirs: str) -> Table:
    return {
        f"{ours}/kernel": (stacked, *(f"{name}.W" for name in theirs)),
        f"{ours}/bias": (stacked, *(f"{name}.b" for name in theirs)),
    }


def parts(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the arguments of `score_sde._settings`, from the names and shapes of tensors."""

    def find(kind: str, leaf: str) -> list[tuple[int, ...]]:
        """Return the shapes of this leaf, in the order of the parts of this kind."""
        pattern = re.compile(rf"{kind}_(\d+)\.{re.escape(leaf)}")
        matched = [(pattern.fullmatch(name), a.shape) for name, a in tensors.items()]
        return [shape for _, shape in sorted((int(m[1]), shape) for m, shape in matched if m)]

    if empty := [name for name, a in tensors.items() if not a.shape or 0 in a.shape]:
        raise ValueError(f"not the tensors of this network: {some('without values', empty)}")
    if not find("Conv", "bias") or not find(r"ResnetBlock\w*", "Conv_0.bias"):
        raise ValueError("not the tensors of this network: no convolutions or blocks")
    return dict(
        widths=[shape[0] for shape in find(r"ResnetBlock\w*", "Conv_0.bias")],
        around=[shape[2:] for shape in find(r"ResnetBlock\w*", "Conv_2.kernel")],
        moves=len(find("Downsample", "Conv_0.bias")) + len(find("Upsample", "Conv_0.bias")),
        channels=find("Conv", "bias")[0][0],
        fourier=bool(find("GaussianFourierProjection", "W")),
        residual=bool(find("Downsample", "Conv2d_0.bias")),
        skip=bool(find("Combine", "Conv_0.bias")),
        outputs=len(find("Conv", "bias")) - 1,
    )
