"""Converter of diffusers' `UNet2DConditionModel`: the U-Nets of Stable Diffusion 1, 2 and XL.

The condition `text` is the hidden states of the text encoders, and for XL `text_pooled` is the
pooled text and the six numbers of sizes and crops, as encoders name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.io.contents import Contents
from diffjax.published import diffusers, schedulers
from diffjax.published.diffusers import DDPM, FEATURES, check_kinds
from diffjax.published.family import Converted
from diffjax.published.tables import Table, converted, layer, norm
from diffjax.specs import Spec

MARKS = (
    "conv_in.weight",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "conv_norm_out.weight",
)
ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DConditionModel",),
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "only_cross_attention": (False,),
    "dual_cross_attention": (False,),
    "mid_block_only_cross_attention": (None, False),
    "cross_attention_norm": (None,),
    "attention_type": ("default",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (1,),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1, 1.0),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "num_class_embeds": (None,),
    "num_attention_heads": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "reverse_transformer_layers_per_block": (None,),
    "addition_embed_type": (None, "text_time"),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "dropout": (0, 0.0),
}
"""Settings of the model that our U-Net supports for some values only."""
FREE = {
    *("sample_size", "in_channels", "out_channels", "block_out_channels", "layers_per_block"),
    *("norm_num_groups", "norm_eps", "cross_attention_dim", "transformer_layers_per_block"),
    *("attention_head_dim", "addition_time_embed_dim", "projection_class_embeddings_input_dim"),
    *("use_linear_projection", "upcast_attention", "addition_embed_type_num_heads"),
}
"""Settings that may have any value; the last line does not change the network here."""
DEFAULTS: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "attention_head_dim": 8,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "dropout": 0.0,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "projection_class_embeddings_input_dim": None,
    "attn_norm_num_groups": None,
    "num_class_embeds": None,
}
"""Defaults of diffusers for settings that a config leaves out."""
TEXT, POOLED = "text", "text_pooled"
NUMBERS = 6
"""Height and width, those of the crop's corner, and those of the target, of XL."""
TIMES = 256
"""Cosines and sines of each of these numbers."""


def recognises(contents: Contents) -> bool:
    """Return whether the tensors are those of such a U-Net, in any wrapper."""
    return any(name.endswith(MARKS[1]) for name in contents.tensors) and any(
        name.endswith(MARKS[2]) for name in contents.tensors
    )


def convert(contents: Contents, steps: int = 0, sampler: str = "") -> Converted:
    """Convert a `UNet2DConditionModel` and its scheduler, by default DDPM's.

    steps, sampler: as for `UNet2DModel`. Raises ValueError for settings that our network does not
    support.
    """
    if not contents.config:
        raise ValueError("config.json is missing: the tensors alone do not determine the network")
    network, specs, shape = settings(contents.config)
    missing = "scheduler_config.json is missing: the defaults of DDPM are assumed"
    notes = () if contents.scheduler else (missing,)
    read = schedulers.read(contents.scheduler or DDPM, steps, sampler)
    if read.sign < 0:
        raise ValueError("scheduler_config.json: flow matching is not supported for this network")
    params = converted(table(network, shape[0]), contents.tensors)
    config = {**read.sections, "network": network}
    notes = (*notes, *read.notes)
    return Converted(config, shape, 0, params, notes, "latent", specs)


def settings(
    stated: Mapping[str, Any], known: frozenset[str] = frozenset(), name: str = ""
) -> tuple[dict[str, Any], tuple[Spec, ...], tuple[int, ...]]:
    """Return the settings of our `unet`, its conditions, and the shape of an item.

    stated: the config of the model. known: settings beside those of the U-Net, and `name` of the
    class, for the config of a network beside one. Raises ValueError for settings that our network
    does not support.
    """
    only = {**ONLY, **({"_class_name": (name,)} if name else {})}
    allowed = {*only, *FREE, *known}
    if unknown := [k for k in stated if k[0] != "_" and k not in allowed]:
        raise ValueError(f"config.json: {unknown[0]}={stated[unknown[0]]!r} is not supported")
    for key, right in only.items():
        value = stated.get(key, right[0])
        for one in value if isinstance(value, list | tuple) else (value,):
            if one not in right:
                shown = ", ".join(map(repr, right))
                raise ValueError(f"config.json: {key}={one!r}: not supported; known: {shown}")
    have = {**DEFAULTS, **stated}
    have["up_block_types"] = mirrored(have)
    have["attention_head_dim"], heads = None, have["attention_head_dim"]
    check_kinds(have)
    widths, size = have["block_out_channels"], have["sample_size"]
    attends = [kind.startswith("Cross") for kind in have["down_block_types"]]
    fits(have, stated)
    depth = have["transformer_layers_per_block"]
    depth = [depth] * len(widths) if isinstance(depth, int) else depth
    network = {
        "name": "unet",
        "channels": widths[0],
        "multipliers": [w // widths[0] for w in widths],
        "blocks": have["layers_per_block"],
        "attention": [size >> level for level, attend in enumerate(attends) if attend],
        **headed(heads, widths),
        "transformer": list(depth),
        "dropout": 0.0,
        "embedding": FEATURES[True, 0],
        "resample": "centred_conv",
        "epsilon": have["norm_eps"],
        "groups": have["norm_num_groups"],
        "conditions": {TEXT: {"mechanism": "cross", "layers": 0, "null": False}},
    }
    specs = [Spec(TEXT, "tokens", have["cross_attention_dim"])]
    if have["addition_embed_type"]:
        width = have["projection_class_embeddings_input_dim"] - NUMBERS * TIMES
        network["conditions"][POOLED] = {"layers": 2, "waves": NUMBERS, "null": False}
        specs.append(Spec(POOLED, "vector", width + NUMBERS))
    return network, tuple(specs), (size, size, have["in_channels"])


def mirrored(have: Mapping[str, Any]) -> list[str]:
    """Return the kinds of the decoder's levels, by default those that mirror the encoder's."""
    down = have["down_block_types"]
    mirror = [f"{str(kind).removesuffix('DownBlock2D')}UpBlock2D" for kind in down][::-1]
    stated = have.get("up_block_types", mirror)
    if list(stated) != mirror:
        raise ValueError(f"config.json: up_block_types={stated!r}; needs {mirror}")
    return mirror


def headed(heads: Any, widths: tuple[int, ...]) -> dict[str, int]:
    """Return the settings of the heads, whose number diffusers calls `attention_head_dim`.

    >>> headed([5, 10, 20], (320, 640, 1280))
    {'heads': 1, 'head_channels': 64}
    """
    each = [heads] * len(widths) if isinstance(heads, int) else list(heads)
    if len(each) == len(widths) and len({*each}) == 1:
        return {"heads": each[0], "head_channels": 0}
    parts = {w // n for w, n in zip(widths, each, strict=False)}
    if len(each) != len(widths) or len(parts) != 1:
        raise ValueError(
            f"config.json: attention_head_dim={heads!r}: needs one number of heads, or heads of "
            f"one width on all levels {list(widths)}"
        )
    return {"heads": 1, "head_channels": parts.pop()}


def fits(have: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that do not fit each other."""
    widths, levels = have["block_out_channels"], len(have["block_out_channels"])
    whole = lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0
    depth, size = have["transformer_layers_per_block"], have["sample_size"]
    listed = isinstance(depth, list | tuple) and len(depth) == levels and all(map(whole, depth))
    added = have["addition_embed_type"]
    for name, right, needs in (
        ("sample_size", whole(size) and size % 2 ** (levels - 1) == 0, "one side that halves"),
        ("block_out_channels", all(w % widths[0] == 0 for w in widths), "multiples of the first"),
        ("down_block_types", len(have["down_block_types"]) == levels, f"{levels} of them"),
        ("cross_attention_dim", whole(have["cross_attention_dim"]), "one width"),
        ("transformer_layers_per_block", whole(depth) or listed, f"a number, or {levels}"),
        ("out_channels", have["out_channels"] == have["in_channels"], "in_channels"),
        ("addition_time_embed_dim", not added or have["addition_time_embed_dim"] == TIMES, TIMES),
    ):
        if not right:
            raise ValueError(f"config.json: {name}={have[name]!r}; needs {needs}")


def table(network: Mapping[str, Any], size: int) -> Table:
    """Return the table for a network with these settings, and latents of side `size`."""
    ours = lambda step: step.attention.replace("SelfAttention", "Transformer")
    attention = lambda step, theirs: transformer(
        f"{ours(step)}/", f"{theirs}.", network["transformer"][step.level]
    )
    entries = diffusers.table(network, size, attention)
    if POOLED in network["conditions"]:
        entries |= layer(f"Embedding_0/vector_{POOLED}", "add_embedding.linear_1")
        entries |= layer(f"Embedding_0/vector_{POOLED}_out", "add_embedding.linear_2")
    return entries


def transformer(ours: str, theirs: str, depth: int) -> Table:
    """Return the table of a `Transformer2DModel`, whose layers may be convolutions of side 1.

    ours, theirs: what stands before the names, with `/` and with `.`.
    """
    entries = norm(f"{ours}GroupNorm_0", f"{theirs}norm")
    entries |= layer(f"{ours}in", f"{theirs}proj_in")
    entries |= layer(f"{ours}out", f"{theirs}proj_out")
    for i in range(depth):
        block = f"{theirs}transformer_blocks.{i}"
        for k, part in enumerate(("self", "cross", "mlp"), 1):
            entries |= norm(f"{ours}{part}_norm_{i}", f"{block}.norm{k}")
        for k, part in enumerate(("self", "cross"), 1):
            for each in "qkv":
                name = f"{block}.attn{k}.to_{each}"
                entries |= layer(f"{ours}{part}_{i}/{each}", name, bias=None)
            entries |= layer(f"{ours}{part}_{i}/out", f"{block}.attn{k}.to_out.0")
        entries |= layer(f"{ours}mlp_in_{i}", f"{block}.ff.net.0.proj")
        entries |= layer(f"{ours}mlp_out_{i}", f"{block}.ff.net.2")
    return entries
