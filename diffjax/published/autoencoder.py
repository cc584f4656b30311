"""Converters of published autoencoders: `AutoencoderKL`, single files of CompVis, and TAESD."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import Params
from diffjax.checks import whole
from diffjax.io.contents import Contents
from diffjax.nets.autoencoder import Autoencoder, autoencoder, folded
from diffjax.nets.tiny import tiny as tiny_autoencoder
from diffjax.published.diffusers import with_old_names
from diffjax.published.names import cleaned, unwrapped
from diffjax.published.tables import (
    Table,
    conv,
    converted,
    fitting,
    kernel,
    layer,
    norm,
    side_by_side,
)
from diffjax.published.tables import shape as form

Tensors = Mapping[str, np.ndarray]


class ConvertedAutoencoder(NamedTuple):
    """A converted autoencoder.

    network: an entry of `nets`. params: its parameters. about: class, factor and channels of the
    latent. statistics: mean and variance of raw latents, which Flux.2 stores beside the network, or
    the scale that LDM stores.
    """

    network: Autoencoder
    params: Params
    about: str
    statistics: Mapping[str, np.ndarray]


KL_CLASSES = ("AutoencoderKL", "AutoencoderKLFlux2")
KL_MARKS = ("encoder.conv_in.weight", "decoder.conv_in.weight")
TINY_MARKS = ("encoder.layers.0.weight", "decoder.layers.0.weight")
ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "kl": {
        "_class_name": KL_CLASSES,
        "act_fn": ("silu", "swish"),
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "AttnUpDecoderBlock2D"),
        "decoder_block_out_channels": (None,),
        "patch_size": (2,),
    },
    "tiny": {
        "_class_name": ("AutoencoderTiny",),
        "act_fn": ("relu",),
        "upsample_fn": ("nearest",),
        "upsampling_scaling_factor": (2,),
    },
}
"""Settings of the classes that our networks support for some values only."""
FREE = {
    *("in_channels", "out_channels", "latent_channels", "block_out_channels", "sample_size"),
    *("layers_per_block", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"),
    *("norm_num_groups", "encoder_block_out_channels", "decoder_block_out_channels"),
    *("num_encoder_blocks", "num_decoder_blocks", "scaling_factor", "shift_factor"),
    *("latents_mean", "latents_std", "batch_norm_eps", "batch_norm_momentum"),
    *("force_upcast", "latent_magnitude", "latent_shift"),
}
"""Settings that the tensors state as well, that the normalisation uses, or that have no effect."""
BESIDE = re.compile(r"(bn|loss|model_ema)\.|scale_factor$")
"""Tensors beside the network: statistics, losses, and averages that LDM names without dots."""
SCALE = re.compile(r"(^|\.)scale_factor$")
"""The tensor in which LDM stores 1 / the deviation of its first batch of latents."""


def kl(contents: Contents, dtype: str = "float32") -> ConvertedAutoencoder:
    """Convert an `AutoencoderKL`, from its folder or from a single file of CompVis.

    Attention layers may have the names of before 2023. `AutoencoderKLFlux2` has folded latents.
    dtype: the type of the compute, float32 or bfloat16. Raises ValueError that names
    tensors and settings which do not fit.
    """
    config = contents.config or {}
    check(config, "kl")
    bare, _ = unwrapped(cleaned(contents), KL_MARKS)
    tensors = {k: bare.tensors[k] for k in bare.tensors if not BESIDE.match(k)}
    statistics = {k: bare.tensors[k] for k in bare.tensors if k.startswith("bn.running")}
    if scale := next(filter(SCALE.search, contents.tensors), None):
        statistics["scale_factor"] = contents.tensors[scale]
    compvis = any(name.startswith("encoder.down.") for name in tensors)
    settings = _kl_settings(tensors, "block" if compvis else "resnets")
    settings["groups"] = config.get("norm_num_groups", 32)
    whole(1, **{"config.json: norm_num_groups": settings["groups"]})
    rows = kl_table(settings)
    rows = compvis_names(rows, settings) if compvis else with_old_names(rows, tensors)
    network = autoencoder(**settings, dtype=dtype)
    params = _fitting(network, rows, tensors)
    if "bn.running_mean" in statistics:
        network = folded(network, 2)
    return ConvertedAutoencoder(network, params, _about("AutoencoderKL", network), statistics)


def check(config: Mapping[str, Any], name: str) -> None:
    """Raise ValueError for settings of a `config.json` that the network lacks."""
    only = ONLY[name]
    if unknown := [k for k in config if k[0] != "_" and k not in {*only, *FREE}]:
        raise ValueError(f"config.json: {unknown[0]}={config[unknown[0]]!r} is not supported")
    for key, allowed in only.items():
        value = config.get(key, allowed[0])
        for one in value if isinstance(value, list | tuple) else (value,):
            if one not in allowed:
                known = ", ".join(map(repr, allowed))
                raise ValueError(f"config.json: {key}={one!r}: not supported; known: {known}")


def _about(name: str, network: Autoencoder) -> str:
    return f"{name}, factor {network.factor}, {network.latent} channels"


def _fitting(network: Autoencoder, rows: Table, tensors: Tensors) -> Params:
    """Return the parameters, converted, if their shapes are those of the network."""
    channels = next(v for k, v in rows.items() if k == "encoder/first/kernel")[1]
    x = jnp.zeros((1, network.factor, network.factor, form(tensors, channels, 4)[1]))
    wanted = jax.eval_shape(network.init, jax.random.key(0), x)
    return fitting(converted(rows, tensors), wanted)


def _kl_settings(tensors: Tensors, block: str) -> dict[str, Any]:
    """Return the settings of `autoencoder` that the tensors determine.

    block: the word for a residual block in their names.
    """

    def count(pattern: str) -> int:
        return len({m[1] for name in tensors if (m := re.match(pattern, name))})

    level = "down" if block == "block" else "down_blocks"
    levels = count(rf"encoder\.{level}\.(\d+)\.")
    channels = form(tensors, "encoder.conv_in.weight", 4)[0]
    first = f"encoder.{level}.{{}}.{block}.0.conv1.weight"
    widths = [form(tensors, first.format(i), 4)[0] for i in range(levels)]
    if not widths or any(width % channels for width in widths):
        raise ValueError(f"block_out_channels={widths}: needs multiples of {channels}")
    norms = {"block": "attn.0.norm.weight", "resnets": "attentions.0.group_norm.weight"}
    attends = [n for n in range(levels) if f"encoder.{level}.{n}.{norms[block]}" in tensors]
    return {
        "channels": channels,
        "multipliers": tuple(width // channels for width in widths),
        "blocks": count(rf"encoder\.{level}\.0\.{block}\.(\d+)\."),
        "latent": form(tensors, "decoder.conv_in.weight", 4)[1],
        "attention": any(k.startswith("encoder.mid") and ".att" in k for k in tensors),
        "attention_levels": tuple(attends),
        "quantised": "quant_conv.weight" in tensors,
    }


def kl_table(settings: Mapping[str, Any]) -> Table:
    """Return the table for an `autoencoder` with these settings, by the names of diffusers."""
    multipliers, blocks = settings["multipliers"], settings["blocks"]
    levels = len(multipliers)
    rows: Table = {}
    for part, theirs in (("encoder", "down_blocks"), ("decoder", "up_blocks")):
        rows |= conv(f"{part}/first", f"{part}.conv_in") | conv(f"{part}/last", f"{part}.conv_out")
        rows |= norm(f"{part}/norm", f"{part}.conv_norm_out") | _middle(part, settings["attention"])
        width = 1 if part == "encoder" else multipliers[-1]
        for n in range(levels):
            level = n if part == "encoder" else levels - 1 - n
            for i in range(blocks + (part == "decoder")):
                ours, place = f"{part}/block_{level}_{i}", f"{part}.{theirs}.{n}.resnets.{i}"
                rows |= _block(ours, place, width != multipliers[level])
                width = multipliers[level]
                if level in settings["attention_levels"]:
                    ours = f"{part}/attention_{level}_{i}"
                    rows |= _attention(ours, f"{part}.{theirs}.{n}.attentions.{i}")
        for level in range(1, levels):
            down = (f"down_{level}", f"down_blocks.{level - 1}.downsamplers.0.conv")
            up = (f"up_{level}", f"up_blocks.{levels - 1 - level}.upsamplers.0.conv")
            ours, place = down if part == "encoder" else up
            rows |= conv(f"{part}/{ours}", f"{part}.{place}")
    if settings["quantised"]:
        rows |= layer("encoder/quant", "quant_conv") | layer("decoder/quant", "post_quant_conv")
    return rows


def _block(ours: str, theirs: str, skip: bool) -> Table:
    rows: Table = {}
    for i in range(2):
        rows |= norm(f"{ours}/norm_{i}", f"{theirs}.norm{i + 1}")
        rows |= conv(f"{ours}/conv_{i}", f"{theirs}.conv{i + 1}")
    return rows | (layer(f"{ours}/skip", f"{theirs}.conv_shortcut") if skip else {})


def _middle(part: str, attends: bool) -> Table:
    ours, theirs = f"{part}/middle", f"{part}.mid_block"
    rows: Table = {}
    for i in range(2):
        rows |= _block(f"{ours}/block_{i}", f"{theirs}.resnets.{i}", skip=False)
    return rows | (_attention(f"{ours}/attention", f"{theirs}.attentions.0") if attends else {})


def _attention(ours: str, theirs: str) -> Table:
    rows = norm(f"{ours}/norm", f"{theirs}.group_norm") | layer(f"{ours}/out", f"{theirs}.to_out.0")
    for leaf, kind in (("kernel", "weight"), ("bias", "bias")):
        names = (f"{theirs}.to_{which}.{kind}" for which in "qkv")
        rows[f"{ours}/qkv/{leaf}"] = (side_by_side, *names)
    return rows


COMPVIS = {
    ".mid_block.resnets.0.": ".mid.block_1.",
    ".mid_block.resnets.1.": ".mid.block_2.",
    ".mid_block.attentions.0.": ".mid.attn_1.",
    ".down_blocks.": ".down.",
    ".resnets.": ".block.",
    ".attentions.": ".attn.",
    ".downsamplers.0.": ".downsample.",
    ".upsamplers.0.": ".upsample.",
    ".conv_norm_out.": ".norm_out.",
    ".conv_shortcut.": ".nin_shortcut.",
    ".group_norm.": ".norm.",
    ".to_out.0.": ".proj_out.",
    **{f".to_{which}.": f".{which}." for which in "qkv"},
}
"""Parts of names of diffusers with those of CompVis, replaced in this order."""


def compvis_names(rows: Table, settings: Mapping[str, Any]) -> Table:
    """Return the table with the names of CompVis, whose decoder has its last level first."""
    last = len(settings["multipliers"]) - 1

    def renamed(name: str) -> str:
        name = re.sub(r"\.up_blocks\.(\d+)", lambda m: f".up.{last - int(m[1])}", name)
        for word, theirs in COMPVIS.items():
            name = name.replace(word, theirs)
        return name

    return {ours: (layout, *map(renamed, names)) for ours, (layout, *names) in rows.items()}


def tiny(contents: Contents, dtype: str = "float32") -> ConvertedAutoencoder:
    """Convert an `AutoencoderTiny` from its folder.

    dtype: the type of the compute, float32 or bfloat16. Raises ValueError that names
    tensors and settings which do not fit.
    """
    config = contents.config
    if not config:
        raise ValueError("config.json is missing: the tensors alone do not determine the network")
    check(config, "tiny")
    bare, _ = unwrapped(cleaned(contents), TINY_MARKS)
    channels, latent = (form(bare.tensors, TINY_MARKS[i], 4)[i] for i in range(2))
    encoder = _counts(config, "num_encoder_blocks", (1, 3, 3, 3))
    decoder = _counts(config, "num_decoder_blocks", (3, 3, 3, 1))[::-1]
    network = tiny_autoencoder(channels, encoder, decoder, latent, dtype)
    params = _fitting(network, tiny_table(encoder, decoder), bare.tensors)
    return ConvertedAutoencoder(network, params, _about("AutoencoderTiny", network), {})


def _counts(config: Mapping[str, Any], name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    counts = config.get(name, default)
    if not isinstance(counts, list | tuple):
        raise ValueError(f"config.json: {name}={counts!r}: needs a list of numbers")
    whole(1, **{f"config.json: {name}[{i}]": count for i, count in enumerate(counts)})
    return tuple(counts)


def tiny_table(encoder: tuple[int, ...], decoder: tuple[int, ...]) -> Table:
    """Return the table for `tiny` with these numbers of blocks per level, the highest first."""
    bare = lambda ours, theirs: layer(ours, theirs, kernel, bias=None)
    blocks = lambda level, count: [(f"block_{level}_{i}", _tiny_block) for i in range(count)]
    # The original numbers all layers, also those without tensors: relu, and repeating values.
    relu = repeat = ("", lambda ours, theirs: {})
    order: dict[str, list[tuple[str, Callable[..., Table]]]] = {"encoder": [], "decoder": []}
    for level, count in enumerate(encoder):
        order["encoder"] += [(f"down_{level}", bare) if level else ("first", conv)]
        order["encoder"] += blocks(level, count)
    order["encoder"] += [("last", conv)]
    order["decoder"] += [("first", conv), relu]
    for level in reversed(range(len(decoder))):
        order["decoder"] += blocks(level, decoder[level])
        order["decoder"] += [repeat, (f"up_{level}", bare)] if level else [("last", conv)]
    rows: Table = {}
    for part, places in order.items():
        for number, (ours, add) in enumerate(places):
            rows |= add(f"{part}/{ours}", f"{part}.layers.{number}")
    return rows


def _tiny_block(ours: str, theirs: str) -> Table:
    rows: Table = {}
    for i in range(3):
        rows |= conv(f"{ours}/conv_{i}", f"{theirs}.conv.{2 * i}")
    return rows
