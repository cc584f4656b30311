"""Converter of diffusers' `PixArtTransformer2DModel` (arXiv:2310.00426, arXiv:2403.04692).

The condition `text` is the hidden states of T5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.io.contents import Contents
from diffjax.published import schedulers
from diffjax.published.dit import patches
from diffjax.published.family import Converted
from diffjax.published.stable import TEXT
from diffjax.published.tables import Table, blocks, converted, joined, layer
from diffjax.specs import Spec

MARKS = ("adaln_single.linear.weight", "caption_projection.linear_1.weight", "scale_shift_table")
POSITIONS = "pos_embed.pos_embed"
ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": ("PixArtTransformer2DModel",),
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "attention_type": ("default",),
    "dropout": (0, 0.0),
    "norm_type": ("ada_norm_single",),
    "norm_elementwise_affine": (False,),
    "norm_eps": (1e-6,),
    "use_additional_conditions": (None, False),
}
"""Settings of the model that our DiT supports for some values only."""
FREE = {
    *("num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers"),
    *("cross_attention_dim", "sample_size", "patch_size", "interpolation_scale"),
    *("caption_channels", "norm_num_groups", "num_embeds_ada_norm", "upcast_attention"),
}
"""Settings that may have any value; those of the last line but the first do not count here."""
DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "sample_size": 128,
    "patch_size": 2,
    "interpolation_scale": None,
    "caption_channels": None,
}
"""Defaults of diffusers for settings that a config leaves out."""
MICRO = 128
"""The side of latents above which diffusers adds sizes as conditions, unless a config denies it."""


def convert(contents: Contents, steps: int = 0, sampler: str = "") -> Converted:
    """Convert a `PixArtTransformer2DModel` and its scheduler, by default that of PixArt.

    The second output, a variance that the pipelines leave out, is left out here as well. steps,
    sampler: as for `UNet2DModel`. Raises ValueError for settings that our network does not support.
    """
    if not contents.config:
        raise ValueError("config.json is missing: the tensors alone do not determine the network")
    network, spec, shape = settings(contents.config)
    missing = "scheduler_config.json is missing: the defaults of DPMSolverMultistep are assumed"
    scheduler = contents.scheduler or {"_class_name": "DPMSolverMultistepScheduler"}
    read = schedulers.read(scheduler, steps, sampler)
    entries = table(network["depth"], network["patch"], shape[-1])
    params = converted(entries, contents.tensors, {POSITIONS})
    notes = (*(() if contents.scheduler else (missing,)), *read.notes)
    config = {**read.sections, "network": network}
    return Converted(config, shape, 0, params, notes, "latent", (spec,))


def settings(stated: Mapping[str, Any]) -> tuple[dict[str, Any], Spec, tuple[int, ...]]:
    """Return the settings of our `dit`, its condition, and the shape of an item.

    Raises ValueError for settings that our network does not support.
    """
    if unknown := [k for k in stated if k[0] != "_" and k not in {*ONLY, *FREE}]:
        raise ValueError(f"config.json: {unknown[0]}={stated[unknown[0]]!r} is not supported")
    for key, right in ONLY.items():
        if (value := stated.get(key, right[0])) not in right:
            shown = ", ".join(map(repr, right))
            raise ValueError(f"config.json: {key}={value!r}: not supported; known: {shown}")
    have = {**DEFAULTS, **stated}
    size, patch, channels = have["sample_size"], have["patch_size"], have["in_channels"]
    width, heads = have["num_attention_heads"] * have["attention_head_dim"], "num_attention_heads"
    if size == MICRO and stated.get("use_additional_conditions") is None:
        raise ValueError(
            f"config.json: use_additional_conditions=None with sample_size={MICRO} adds sizes as "
            f"conditions, which are not supported; known: False"
        )
    for name, right, needs in (
        ("sample_size", isinstance(size, int) and size % patch == 0, f"a multiple of {patch}"),
        ("out_channels", have["out_channels"] in (channels, 2 * channels), "one or two outputs"),
        ("cross_attention_dim", have.get("cross_attention_dim", width) == width, width),
        ("caption_channels", isinstance(have["caption_channels"], int), "a width"),
    ):
        if not right:
            raise ValueError(f"config.json: {name}={have.get(name)!r}; needs {needs}")
    network = {
        "name": "dit",
        "width": width,
        "depth": have["num_layers"],
        "heads": have[heads],
        "patch": patch,
        "modulation": "shared",
        "stretch": float(have["interpolation_scale"] or max(size // 64, 1)),
        "conditions": {TEXT: {"mechanism": "cross", "layers": 2, "null": False}},
    }
    return network, Spec(TEXT, "tokens", have["caption_channels"]), (size, size, channels)


def table(depth: int, patch: int, channels: int) -> Table:
    """Return the table for a network of `depth` blocks."""

    def last(w: np.ndarray) -> np.ndarray:
        """Return the last layer with rows (p p, C), from rows (p p, outputs C)."""
        return w.reshape(patch**2, -1, channels, *w.shape[1:])[:, 0].reshape(-1, *w.shape[1:]).T

    theirs = "transformer_blocks.{i}"
    block: Table = {"blocks/main/table": (np.ravel, f"{theirs}.scale_shift_table")}
    for ours, attention, heads in (
        ("blocks/main/qkv", "attn1", "qkv"),
        ("blocks_keys/kv", "attn2", "kv"),
    ):
        block |= joined(ours, *(f"{theirs}.{attention}.to_{each}" for each in heads))
    for ours, name in (
        ("main/out", "attn1.to_out.0"),
        ("cross/q", "attn2.to_q"),
        ("cross/out", "attn2.to_out.0"),
        ("main/mlp_in", "ff.net.0.proj"),
        ("main/mlp_out", "ff.net.2"),
    ):
        block |= layer(f"blocks/{ours}", f"{theirs}.{name}")
    return {
        **layer("patches", "pos_embed.proj", patches),
        **layer("noise_in", "adaln_single.emb.timestep_embedder.linear_1"),
        **layer("noise_out", "adaln_single.emb.timestep_embedder.linear_2"),
        **layer("shared", "adaln_single.linear"),
        **layer(f"tokens_{TEXT}", "caption_projection.linear_1"),
        **layer(f"tokens_{TEXT}_out", "caption_projection.linear_2"),
        **blocks(block, depth),
        "table": (np.ravel, "scale_shift_table"),
        **layer("out", "proj_out", last, last),
    }
