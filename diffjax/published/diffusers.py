"""Converter of diffusers' `UNet2DModel` with the config of its scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffjax.io.contents import Contents
from diffjax.nets.layers import group_count
from diffjax.published import schedulers
from diffjax.published.edm import negated
from diffjax.published.family import Converted, enlarging
from diffjax.published.tables import (
    Table,
    beside,
    conv,
    converted,
    layer,
    norm,
    side_by_side,
    with_null,
)
from diffjax.published.tables import shape as form
from diffjax.published.walk import Step, head, walk

ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel",),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": ("UNetMidBlock2D",),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
    "add_attention": (True,),
}
"""Settings of the model that our U-Net supports for some values only."""
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "downsample_padding": 1,
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "time_embedding_dim": None,
    "num_train_timesteps": None,
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
}
"""Defaults of diffusers for settings that a config leaves out."""
FEATURES = {(False, 1): "ddpm", (True, 0): "adm"}
"""Our kind of embedding by (`flip_sin_to_cos`, `freq_shift`)."""
MARKS = ("time_embedding.linear_1.weight", "conv_in.weight")
AVERAGE = {
    *("decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup"),
    *("inv_gamma", "power"),
}
"""Settings that diffusers' averages write among those of the network."""
DDPM = {"_class_name": "DDPMScheduler"}


def convert(
    contents: Contents, steps: int = 0, kind: str = "", sampler: str = "", factor: int = 0
) -> Converted:
    """Convert a `UNet2DModel` and its scheduler, by default DDPM's.

    steps: number of steps of the sampler, by default that of the scheduler's pipeline. kind: kind
    of the data, which the files do not state: by default image with 1 or 3 channels, else latent.
    sampler: replaces that of the scheduler, where its options have no counterpart here. factor: of
    a network that enlarges images, the ratio of their sides; its input is an image and a smaller
    one, enlarged bicubically as SR3 does (arXiv:2104.07636). Raises ValueError for settings that
    our network does not support.
    """
    if not contents.config:
        raise ValueError("config.json is missing: the tensors alone do not determine the network")
    tensors = contents.tensors
    network, shape = _network(contents.config, tensors, bool(factor))
    classes = contents.config.get("num_class_embeds") or 0
    notes = (
        ()
        if contents.scheduler
        else ("scheduler_config.json is missing: the defaults of DDPM are assumed",)
    )
    read = schedulers.read(contents.scheduler or DDPM, steps, sampler)
    wanted, two = read.sections["sampling"]["sampler"]["name"], network["learn_variance"]
    if wanted == "ancestral_learned" and not two:
        raise ValueError(
            f"scheduler_config.json: variance_type='learned_range' with out_channels={shape[-1]}; "
            f"needs {2 * shape[-1]}"
        )
    parts = {"classes": classes, "low": shape[-1] if factor else 0}
    rows = with_old_names(table({**network, **parts}, shape[0]), tensors)
    params = converted(rows, tensors)
    if read.sign < 0:
        params = negated(params, network, shape[0])
    config = {**read.sections, "network": network}
    config |= enlarging(factor, "bicubic", bool(classes)) if factor else {}
    kind = kind or ("image" if shape[-1] in (1, 3) else "latent")
    return Converted(config, shape, classes, params, (*notes, *read.notes), kind)


def _network(
    stated: Mapping[str, Any], tensors: Mapping[str, Any], enlarges: bool = False
) -> tuple[dict[str, Any], Any]:
    """Return the settings of our `unet`, and the shape of images.

    enlarges: whether half of the input channels are those of a smaller image.
    """
    known = {*ONLY, *DEFAULTS, *AVERAGE}
    if unknown := [k for k in stated if k[0] != "_" and k not in known]:
        raise ValueError(f"config.json: {unknown[0]}={stated[unknown[0]]!r} is not supported")
    for name, allowed in ONLY.items():
        value = stated.get(name, DEFAULTS.get(name, allowed[0]))
        for one in value if isinstance(value, list | tuple) else (value,):
            if one not in allowed:
                right = ", ".join(map(repr, allowed))
                raise ValueError(f"config.json: {name}={one!r}: not supported; known: {right}")
    have = {**DEFAULTS, **stated}
    check_kinds(have)
    inputs, wanted = have["in_channels"], (1 + enlarges) * have["out_channels"]
    if enlarges and inputs not in (wanted, have["out_channels"]):
        raise ValueError(
            f"config.json: in_channels={inputs} with factor; needs {wanted}, those of an image and "
            f"a smaller one, or {have['out_channels']} with a learned variance"
        )
    if inputs == 2 * have["out_channels"] and not enlarges:
        raise ValueError(
            f"config.json: in_channels={inputs}, out_channels={have['out_channels']}: a network "
            f"that enlarges images needs factor; one of latents beside an image is not supported"
        )
    have["in_channels"] = inputs // (1 + enlarges)
    sides = have["sample_size"]
    if isinstance(sides, list) and len({*map(str, sides)}) == 1:
        have["sample_size"] = sides[0]
    for name, right, needs in combinations(have, tensors):
        if not right:
            raise ValueError(f"config.json: {name}={have[name]!r}; needs {needs}")
    widths, groups = have["block_out_channels"], have["norm_num_groups"]
    size: int = have["sample_size"]
    attends = [kind.startswith("Attn") for kind in have["down_block_types"]]
    features = FEATURES[bool(have["flip_sin_to_cos"]), have["freq_shift"]]
    two = have["out_channels"] == 2 * have["in_channels"]
    each = have["attention_head_dim"]
    network = {
        "name": "unet",
        "channels": widths[0],
        "multipliers": [w // widths[0] for w in widths],
        "blocks": have["layers_per_block"],
        "attention": [size >> level for level, attend in enumerate(attends) if attend],
        "heads": 1,
        "head_channels": each or 0,
        "dropout": have["dropout"],
        "embedding": features,
        "resample": "centred_conv" if have["downsample_padding"] else "conv",
        "scale_shift": have["resnet_time_scale_shift"] == "scale_shift",
        "epsilon": have["norm_eps"],
        "groups": groups,
        "learn_variance": two,
    }
    return network, (size, size, have["in_channels"])


def check_kinds(have: Mapping[str, Any]) -> None:
    """Raise ValueError for values that are not the numbers or lists that they should be."""
    whole = lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0
    for name in ("in_channels", "out_channels", "layers_per_block", "norm_num_groups"):
        if not whole(have[name]):
            raise ValueError(f"config.json: {name}={have[name]!r}; needs a positive whole number")
    for name in ("attention_head_dim", "attn_norm_num_groups", "num_class_embeds"):
        if not (have[name] is None or whole(have[name])):
            raise ValueError(
                f"config.json: {name}={have[name]!r}; needs a positive whole number, or null"
            )
    for name in ("dropout", "norm_eps"):
        if isinstance(have[name], bool) or not isinstance(have[name], int | float):
            raise ValueError(f"config.json: {name}={have[name]!r}; needs a number")
    for name, each, word in (
        ("block_out_channels", whole, "whole numbers"),
        ("down_block_types", lambda kind: isinstance(kind, str), "names"),
        ("up_block_types", lambda kind: isinstance(kind, str), "names"),
    ):
        value = have[name]
        if not (isinstance(value, list | tuple) and value and all(map(each, value))):
            raise ValueError(f"config.json: {name}={value!r}; needs a list of {word}")


def combinations(have: Mapping[str, Any], tensors: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Return settings, whether each fits the other settings, and what it needs."""
    widths, size, each = have["block_out_channels"], have["sample_size"], have["attention_head_dim"]
    down, groups, halves = have["down_block_types"], have["norm_num_groups"], len(widths) - 1
    attends = [kind.startswith("Attn") for kind in down]
    attended = [w for w, attend in zip(widths, attends, strict=False) if attend] + [widths[-1]]
    norms = {form(tensors, k, 1)[0] for k in tensors if "norm" in k and k.endswith(".weight")}
    features = isinstance(have["freq_shift"], int) and FEATURES.get(
        (bool(have["flip_sin_to_cos"]), have["freq_shift"])
    )
    middle = have["attn_norm_num_groups"]
    plain = have["resnet_time_scale_shift"] == "default"
    whole = isinstance(size, int) and not isinstance(size, bool) and size > 0
    both = "True with freq_shift=0, or False with freq_shift=1"
    fit = f"a divisor of {sorted(norms)} that leaves four channels in a group"
    up = [kind.startswith("Attn") for kind in have["up_block_types"]][::-1]
    outputs = (have["in_channels"], 2 * have["in_channels"])
    return [
        ("sample_size", whole, "one side in pixels"),
        ("sample_size", whole and size % 2**halves == 0, f"a side that halves {halves} times"),
        (
            "down_block_types",
            len(down) == len(widths),
            f"{len(widths)} of them, as for block_out_channels",
        ),
        ("flip_sin_to_cos", features, both),
        ("out_channels", have["out_channels"] in outputs, "in_channels or twice as many"),
        (
            "block_out_channels",
            all(w % widths[0] == 0 for w in widths),
            "multiples of the first number",
        ),
        ("up_block_types", up == attends, "the mirror image of down_block_types"),
        ("time_embedding_dim", have["time_embedding_dim"] in (None, 4 * widths[0]), "null"),
        (
            "attention_head_dim",
            not each or all(w % each == 0 for w in attended),
            f"a divisor of the channels {attended} with attention",
        ),
        ("norm_num_groups", all(group_count(n, groups) == groups for n in norms), fit),
        ("attn_norm_num_groups", middle in (None, groups), f"null, or {groups}"),
        (
            "attn_norm_num_groups",
            plain or middle,
            f"{groups} with resnet_time_scale_shift='scale_shift', which else has no norm there",
        ),
    ]


OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Names of attention layers until 2023, by their present names."""


def with_old_names(table: Table, tensors: Mapping[str, Any]) -> Table:
    """Return the table with the older names where these tensors have them."""
    if not any(".query." in name for name in tensors):
        return table

    def old(name: str) -> str:
        for new, before in OLD.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    return {ours: (layout, *map(old, names)) for ours, (layout, *names) in table.items()}


def table(
    settings: Mapping[str, Any],
    size: int,
    attention: Callable[[Step, str], Table] | None = None,
) -> Table:
    """Return the table for a network with these settings, and images of side `size`.

    attention: the table of the attention of a step whose name there is given. A network that
    enlarges has the setting `low`, the channels of the smaller image.
    """
    attended = attention or (lambda step, theirs: _attention(step.attention, theirs))
    ours, top = "Embedding_0", len(settings["multipliers"]) - 1
    entries = layer(f"{ours}/Dense_0", "time_embedding.linear_1")
    entries |= layer(f"{ours}/Dense_1", "time_embedding.linear_2")
    if settings.get("classes"):
        entries[f"{ours}/label/embedding"] = (with_null, "class_embedding.weight")
    for step in walk(settings, size):
        places = {
            "encoder": f"down_blocks.{step.level}",
            "middle": "mid_block",
            "decoder": f"up_blocks.{top - step.level}",
        }
        if step.kind == "first":
            entries |= conv(step.ours, "conv_in")
            if settings.get("low"):
                entries[f"{step.ours}/kernel"] = (beside(settings["low"]), "conv_in.weight")
        elif step.kind == "last":
            entries |= head(step, "conv_norm_out", "conv_out")
        elif step.kind == "down":
            entries |= conv(step.ours, f"down_blocks.{step.level - 1}.downsamplers.0.conv")
        elif step.kind == "up":
            entries |= conv(step.ours, f"up_blocks.{top - step.level}.upsamplers.0.conv")
        else:
            place = places[step.kind]
            entries |= _block(step, f"{place}.resnets.{step.i}")
            if step.attention:
                entries |= attended(step, f"{place}.attentions.{step.i}")
    return entries


def _block(step: Step, theirs: str) -> Table:
    entries: Table = {}
    for i in range(2):
        entries |= norm(f"{step.ours}/GroupNorm_{i}", f"{theirs}.norm{i + 1}")
        entries |= conv(f"{step.ours}/Conv_{i}", f"{theirs}.conv{i + 1}")
    entries |= layer(f"{step.ours}/Dense_0", f"{theirs}.time_emb_proj")
    return entries | (layer(f"{step.ours}/skip", f"{theirs}.conv_shortcut") if step.skip else {})


def _attention(ours: str, theirs: str) -> Table:
    entries = norm(f"{ours}/GroupNorm_0", f"{theirs}.group_norm")
    for leaf, part in (("kernel", "weight"), ("bias", "bias")):
        names = (f"{theirs}.to_{which}.{part}" for which in "qkv")
        entries[f"{ours}/qkv/{leaf}"] = (side_by_side, *names)
    return entries | layer(f"{ours}/out", f"{theirs}.to_out.0")
