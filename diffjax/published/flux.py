"""Converter of diffusers' `FluxTransformer2DModel`: Flux.1 dev and schnell.

The condition `text` is the states of T5, and `text_pooled` is the pooled text of CLIP, as the
encoder `clip_t5` names them. Flux.1 dev also takes the weight of guidance, which it has learned by
distillation: `config.sampling.guidance` is this weight, and a row takes one pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffjax.io.contents import Contents
from diffjax.published import mmdit, schedulers
from diffjax.published.family import Converted
from diffjax.published.schedulers import FLOW_EULER
from diffjax.published.sd3 import FLOW
from diffjax.published.stable import POOLED, TEXT
from diffjax.published.tables import (
    Layout,
    Table,
    blocks,
    converted,
    joined,
    layer,
    matrix,
    side_by_side,
)
from diffjax.specs import Spec

CLASS = "FluxTransformer2DModel"
MARKS = (
    "x_embedder.weight",
    "context_embedder.weight",
    "single_transformer_blocks.0.norm.linear.weight",
)
DEFAULTS: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "out_channels": None,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": False,
    "axes_dims_rope": (16, 56, 56),
}
"""Settings of the model, with the defaults of diffusers."""
STEPS = {True: 28, False: 4}
"""Those that are recommended with and without a weight of guidance."""
WEIGHT = 3.5
"""The weight of guidance of the pipeline."""
FOLD = 2
"""Side of the squares of latents that are one token."""


def convert(contents: Contents, steps: int = 0, sampler: str = "", size: int = 128) -> Converted:
    """Convert a `FluxTransformer2DModel` and its scheduler, by default that without shift.

    steps, sampler: as for `UNet2DModel`. size: the side of the latents, which the files do not
    state; the shift of the scheduler follows from it. Raises ValueError for settings that our
    network does not support.
    """
    if not contents.config:
        raise ValueError("config.json is missing: the tensors alone do not determine the network")
    if size < 1 or size % FOLD:
        raise ValueError(f"size={size}: needs a multiple of {FOLD}")
    network, specs, channels = settings(contents.config)
    missing = "scheduler_config.json is missing: FlowMatchEulerDiscrete without shift is assumed"
    scheduler = contents.scheduler or {"_class_name": FLOW}
    if (name := scheduler.get("_class_name")) != FLOW:
        raise ValueError(f"scheduler_config.json: _class_name={name!r}; needs {FLOW}")
    guided = "guidance" in network["conditions"]
    still = {**scheduler, "use_dynamic_shifting": False, "shift": 1.0}
    read = schedulers.read(still, steps or STEPS[guided], sampler)
    grid = {"name": "shifted", "shift": shift(scheduler, (size // FOLD) ** 2), "even": True}
    sampling = {**read.sections["sampling"], "grid": grid, "guidance": WEIGHT if guided else 1.0}
    params = converted(table(network, channels), contents.tensors)
    notes = (*(() if contents.scheduler else (missing,)), *read.notes)
    config = {**read.sections, "sampling": sampling, "network": network}
    return Converted(config, (size, size, channels), 0, params, notes, "latent", specs)


def shift(scheduler: Mapping[str, Any], tokens: int) -> float:
    """Return the shift of the times for an image of so many tokens.

    >>> dynamic = {"use_dynamic_shifting": True}
    >>> [round(shift(dynamic, n), 3) for n in (256, 4096)], shift({}, 256)
    ([1.649, 3.158], 1.0)
    """
    have = schedulers.arguments(scheduler, FLOW_EULER)
    if not have["use_dynamic_shifting"]:
        return float(have["shift"])
    low, high = have["base_image_seq_len"], have["max_image_seq_len"]
    slope = (have["max_shift"] - have["base_shift"]) / (high - low)
    mu = have["base_shift"] + slope * (tokens - low)
    return float(mu) if have["time_shift_type"] == "linear" else math.exp(mu)


def settings(stated: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Spec, ...], int]:
    """Return the settings of our `dit`, its conditions, and the channels of latents.

    Raises ValueError for settings that our network does not support.
    """
    if unknown := [k for k in stated if k[0] != "_" and k not in DEFAULTS]:
        raise ValueError(f"config.json: {unknown[0]}={stated[unknown[0]]!r} is not supported")
    have = {**DEFAULTS, **stated}
    channels, axes, head = have["in_channels"], have["axes_dims_rope"], have["attention_head_dim"]
    even = len(axes) == 3 and sum(axes) == head and all(n % 2 == 0 for n in axes)
    for name, right, needs in (
        ("_class_name", stated.get("_class_name", CLASS) == CLASS, CLASS),
        ("patch_size", have["patch_size"] == 1, 1),
        ("in_channels", channels % FOLD**2 == 0, f"a multiple of {FOLD**2}"),
        ("out_channels", have["out_channels"] in (None, channels), channels),
        ("axes_dims_rope", even, f"three even numbers whose sum is {head}"),
        ("num_single_layers", have["num_single_layers"] > 0, "1 or more"),
    ):
        if not right:
            raise ValueError(f"config.json: {name}={have.get(name)!r}; needs {needs}")
    network = {
        "name": "dit",
        "width": have["num_attention_heads"] * head,
        "depth": have["num_layers"] + have["num_single_layers"],
        "heads": have["num_attention_heads"],
        "patch": FOLD,
        "positions": "rotary",
        "axes": list(axes),
        "single": have["num_single_layers"],
        "qk_norm": True,
        "conditions": dict(mmdit.CONDITIONS),
    }
    if have["guidance_embeds"]:
        network["conditions"]["guidance"] = {"size": 1, "waves": True}
    specs = (
        Spec(TEXT, "tokens", have["joint_attention_dim"]),
        Spec(POOLED, "vector", have["pooled_projection_dim"]),
    )
    return network, specs, channels // FOLD**2


def halves(axes: Sequence[int]) -> Layout:
    """Return the layout of queries and keys whose neighbouring features are rotated together.

    Our features i and i + d / 2 of a head are rotated together, those of the last axis first. The
    layout is that of a layer of several heads, and of a norm of one.

    >>> halves([2, 4])(np.arange(6)).tolist()
    [2, 4, 0, 3, 5, 1]
    """
    ends = np.cumsum(axes)
    parts = [np.arange(end - n, end) for n, end in zip(axes, ends, strict=True)]
    order = np.concatenate([part[k::2] for k in (0, 1) for part in parts[::-1]])
    return lambda w: w.reshape(-1, len(order), *w.shape[1:])[:, order].reshape(w.shape)


def folded(channels: int, first: bool) -> Layout:
    """Return the layout of a layer on squares of latents, from (C, 2, 2) to our (2, 2, C).

    first: whether the squares are the inputs of the layer.
    """
    order = np.arange(channels * FOLD**2).reshape(channels, FOLD**2).T.ravel()

    def layout(w: np.ndarray) -> np.ndarray:
        return matrix(w[:, order]) if first else matrix(w[order]) if w.ndim > 1 else w[order]

    return layout


def table(network: Mapping[str, Any], channels: int) -> Table:
    """Return the table for a network with these settings, on latents with so many channels."""
    single, last = network["single"], folded(channels, first=False)
    turned, theirs = halves(network["axes"]), "single_transformer_blocks.{i}."

    def beside(q: np.ndarray, k: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """Return queries, keys, values and the hidden layer of the MLP side by side."""
        return side_by_side(turned(q), turned(k), *more)

    parts = (*(f"{theirs}attn.to_{each}" for each in "qkv"), f"{theirs}proj_mlp")
    alone = {
        **layer("single/modulation", f"{theirs}norm.linear"),
        **joined("single/qkv_mlp", *parts, layout=beside),
        **mmdit.norms("single", f"{theirs}attn.norm_q", f"{theirs}attn.norm_k", turned),
        **layer("single/out", f"{theirs}proj_out"),
    }
    double = mmdit.block("blocks/", "transformer_blocks.{i}.", qk_norm=True, turned=turned)
    guidance: Table = {}
    if "guidance" in network["conditions"]:
        for k, ours in enumerate(("guidance_in", "guidance_out"), 1):
            guidance |= layer(ours, f"time_text_embed.guidance_embedder.linear_{k}")
    return {
        **layer("patches", "x_embedder", folded(channels, first=True)),
        **mmdit.embedding(),
        **guidance,
        **blocks(double, network["depth"] - single),
        **blocks(alone, single),
        **layer("out", "proj_out", last, last),
    }
