"""Converter of diffusers' `SD3Transformer2DModel`: Stable Diffusion 3 and 3.5 (arXiv:2403.03206).

The condition `text` is the states of two towers of CLIP and of T5, and `text_pooled` is the pooled
text of the towers, as the encoder `clip_pair_t5` names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.io.contents import Contents
from diffjax.published import mmdit, schedulers
from diffjax.published.dit import patches
from diffjax.published.family import Converted
from diffjax.published.stable import POOLED, TEXT
from diffjax.published.tables import Table, blocks, converted, layer
from diffjax.specs import Spec

POSITIONS = "pos_embed.pos_embed"
MARKS = (POSITIONS, "context_embedder.weight", "transformer_blocks.0.attn.add_k_proj.weight")
DEFAULTS: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 18,
    "attention_head_dim": 64,
    "num_attention_heads": 18,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1152,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 96,
    "dual_attention_layers": (),
    "qk_norm": None,
}
"""Settings of the model, with the defaults of diffusers."""
STEPS = 28
"""Those of the pipeline."""


def convert(contents: Contents, steps: int = 0, sampler: str = "") -> Converted:
    """Convert an `SD3Transformer2DModel` and its scheduler, by default that with the shift 3.

    steps, sampler: as for `UNet2DModel`. Raises ValueError for settings that our network does not
    support.
    """
    if not contents.config:
        raise ValueError("config.json is missing: the tensors alone do not determine the network")
    network, specs, shape = settings(contents.config)
    missing = "scheduler_config.json is missing: FlowMatchEulerDiscrete of shift 3 is assumed"
    scheduler = contents.scheduler or {"_class_name": FLOW, "shift": 3.0}
    read = schedulers.read(scheduler, steps or STEPS, sampler)
    last = f"transformer_blocks.{network['depth'] - 1}."
    unused = {last + name for name in mmdit.UNUSED}
    params = converted(table(network), contents.tensors, unused)
    notes = (*(() if contents.scheduler else (missing,)), *read.notes)
    config = {**read.sections, "network": network}
    return Converted(config, shape, 0, params, notes, "latent", specs)


FLOW = "FlowMatchEulerDiscreteScheduler"


def settings(
    stated: Mapping[str, Any],
) -> tuple[dict[str, Any], tuple[Spec, ...], tuple[int, ...]]:
    """Return the settings of our `dit`, its conditions, and the shape of an item.

    Raises ValueError for settings that our network does not support.
    """
    if unknown := [k for k in stated if k[0] != "_" and k not in DEFAULTS]:
        raise ValueError(f"config.json: {unknown[0]}={stated[unknown[0]]!r} is not supported")
    have = {**DEFAULTS, **stated}
    size, patch, channels = have["sample_size"], have["patch_size"], have["in_channels"]
    width, side = have["num_attention_heads"] * have["attention_head_dim"], "pos_embed_max_size"
    dual = list(have["dual_attention_layers"])
    whole = lambda n: isinstance(n, int) and n > 0
    for name, right, needs in (
        ("_class_name", stated.get("_class_name", CLASS) == CLASS, CLASS),
        ("sample_size", whole(size) and size % patch == 0, f"a multiple of {patch}"),
        ("out_channels", have["out_channels"] in (None, channels), channels),
        ("caption_projection_dim", have["caption_projection_dim"] == width, width),
        (side, whole(have[side]) and have[side] * patch >= size, f"{size // patch} or more"),
        ("qk_norm", have["qk_norm"] in (None, "rms_norm"), "None or 'rms_norm'"),
        ("dual_attention_layers", dual == [*range(len(dual))], "the first layers"),
    ):
        if not right:
            raise ValueError(f"config.json: {name}={have.get(name)!r}; needs {needs}")
    network = {
        "name": "dit",
        "width": width,
        "depth": have["num_layers"],
        "heads": have["num_attention_heads"],
        "patch": patch,
        "positions": "learned",
        "side": have[side],
        "stretch": have[side] / (size // patch),
        "dual": len(dual),
        "qk_norm": bool(have["qk_norm"]),
        "conditions": mmdit.CONDITIONS,
    }
    specs = (
        Spec(TEXT, "tokens", have["joint_attention_dim"]),
        Spec(POOLED, "vector", have["pooled_projection_dim"]),
    )
    return network, specs, (size, size, channels)


CLASS = "SD3Transformer2DModel"


def table(network: Mapping[str, Any]) -> Table:
    """Return the table for a network with these settings."""
    dual, depth, side = network["dual"], network["depth"], network["side"]
    theirs, norm = "transformer_blocks.{i}.", {"qk_norm": network["qk_norm"]}
    end = theirs.format(i=depth - 1)
    return {
        **layer("patches", "pos_embed.proj", patches),
        "positions": (lambda w: w.reshape(side, side, -1), POSITIONS),
        **mmdit.embedding(),
        **(blocks(mmdit.block("dual/", theirs, dual=True, **norm), dual) if dual else {}),
        **blocks(mmdit.block("blocks/", theirs, **norm), depth - 1 - dual, first=dual),
        **mmdit.block("last/", end, last=True, **norm),
        **layer("out", "proj_out"),
    }
