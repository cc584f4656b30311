"""Converter of the networks of improved- and guided-diffusion.

Sources: arXiv:2102.09672, arXiv:2105.05233.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.io.contents import Contents
from diffjax.published.family import Converted, enlarging
from diffjax.published.tables import (
    Table,
    beside,
    conv,
    converted,
    interleaved,
    layer,
    norm,
    with_null,
)
from diffjax.published.tables import shape as shape_of
from diffjax.published.walk import Step, head, walk


def table(settings: Mapping[str, Any], size: int, order: str = "h3c") -> Table:
    """Return the table for a network with these settings, and images of side `size`.

    An upsampler has the setting `low`, the channels of the smaller image beside the image.
    order: "3hc" for models with `use_new_attention_order`.
    """
    ours = "Embedding_0"
    entries = layer(f"{ours}/Dense_0", "time_embed.0") | layer(f"{ours}/Dense_1", "time_embed.2")
    if settings.get("classes"):
        entries[f"{ours}/label/embedding"] = (with_null, "label_emb.weight")
    inputs, outs, part = -1, -1, 0
    for step in walk(settings, size):
        if step.kind in ("first", "encoder", "down"):
            inputs += 1
            theirs, around = f"input_blocks.{inputs}", 1
        elif step.kind == "middle":
            theirs, around, part = "middle_block", 1, 2 * step.i
        elif step.kind == "decoder":
            outs += 1
            theirs, around, part = f"output_blocks.{outs}", 1, 0
        elif step.kind == "up":
            theirs, around = f"output_blocks.{outs}", 0
        else:
            entries |= head(step, "out.0", "out.2")
            continue
        if step.kind in ("first", "encoder", "down"):
            part = 0
        if step.kind == "first" or step.ours.startswith("Conv"):
            inner = {"first": "", "down": ".op", "up": ".conv"}[step.kind]
            entries |= conv(step.ours, f"{theirs}.{part}{inner}")
            if step.kind == "first" and settings.get("low"):
                name = f"{theirs}.{part}{inner}.weight"
                entries[f"{step.ours}/kernel"] = (beside(settings["low"]), name)
        else:
            entries |= _block(step, f"{theirs}.{part}")
        part += around
        if step.attention:
            entries |= _attention(step, f"{theirs}.{part}", order)
            part += 1
    return entries


def _block(step: Step, theirs: str) -> Table:
    entries = norm(f"{step.ours}/GroupNorm_0", f"{theirs}.in_layers.0")
    entries |= conv(f"{step.ours}/Conv_0", f"{theirs}.in_layers.2")
    entries |= layer(f"{step.ours}/Dense_0", f"{theirs}.emb_layers.1")
    entries |= norm(f"{step.ours}/GroupNorm_1", f"{theirs}.out_layers.0")
    entries |= conv(f"{step.ours}/Conv_1", f"{theirs}.out_layers.3")
    return entries | (layer(f"{step.ours}/skip", f"{theirs}.skip_connection") if step.skip else {})


def _attention(step: Step, theirs: str, order: str) -> Table:
    qkv = interleaved(step.heads, order)
    entries = norm(f"{step.attention}/GroupNorm_0", f"{theirs}.norm")
    entries |= layer(f"{step.attention}/qkv", f"{theirs}.qkv", qkv, qkv)
    return entries | layer(f"{step.attention}/out", f"{theirs}.proj_out")


SIDES = {
    (1, 2, 2, 2): 32,
    (1, 2, 3, 4): 64,
    (1, 1, 2, 3, 4): 128,
    (1, 1, 2, 2, 4, 4): 256,
}
"""The side of images by multipliers: the inverse of what both code bases derive from the side."""
GUIDED = {"schedule": "linear", "steps": 1000, "head_channels": 64}
IMPROVED = {"schedule": "cosine", "steps": 4000, "heads": 4}
PRESETS = {
    "64x64_diffusion": {**GUIDED, "schedule": "cosine", "order": "3hc"},
    "128x128_diffusion": {"schedule": "linear", "steps": 1000, "heads": 4},
    "256x256_diffusion": GUIDED,
    "256x256_diffusion_uncond": GUIDED,
    "64_256_upsampler": {"schedule": "linear", "steps": 1000, "heads": 4, "factor": 4},
    "128_512_upsampler": {**GUIDED, "size": 512, "factor": 4},
    "lsun_bedroom": GUIDED,
    "lsun_cat": GUIDED,
    "lsun_horse": GUIDED,
    "lsun_horse_nodropout": GUIDED,
    "imagenet64_uncond_100M_1500K": IMPROVED,
    "imagenet64_cond_270M_250K": IMPROVED,
    "cifar10_uncond_50M_500K": IMPROVED,
    "cifar10_uncond_vlb_50M_500K": IMPROVED,
    "lsun_uncond_100M_1200K_bs128": {"schedule": "linear", "steps": 1000, "heads": 1},
    "lsun_uncond_100M_2400K_bs64": {"schedule": "linear", "steps": 1000, "heads": 1},
}
"""Settings that the tensors do not state, by the name of the file."""
SAMPLED = "predictions are not clipped to [-1, 1], and the file has no classifier for guidance"


MARKS = ("time_embed.0.weight", "input_blocks.0.0.weight")


def convert(
    contents: Contents,
    schedule: str = "",
    steps: int = 0,
    heads: int = 0,
    head_channels: int = 0,
    size: int = 0,
    order: str = "",
    factor: int = 0,
) -> Converted:
    """Convert a state dict, `.pt`.

    Settings that the file does not state follow from its published name, or are given here.
    schedule: linear or cosine, of `steps` (`diffusion_steps`). heads, or head_channels: those of
    the attention (`num_heads`, `num_head_channels`). size: side of the images, where the
    multipliers are not those of the original. order: "3hc" for `use_new_attention_order`. factor:
    of an upsampler, `large_size / small_size`; the network then has an image and a smaller image,
    enlarged bilinearly and without noise, as its inputs. Raises
    ValueError for settings that are missing, unknown or out of range, and for a classifier.
    """
    asked = {"schedule": schedule, "steps": steps, "heads": heads, "head_channels": head_channels}
    asked |= {"size": size, "order": order, "factor": factor}
    settings = {"order": "h3c", **PRESETS.get(contents.file, {})}
    settings |= {name: value for name, value in asked.items() if value}
    if not any(name.startswith("output_blocks.") for name in contents.tensors):
        raise ValueError("a classifier of noisy images, not a denoiser: it has no decoder")
    enlarges = bool(settings.get("factor"))
    network = _shapes(contents.tensors, enlarges)
    size = settings.get("size") or SIDES.get(network["multipliers"], 0)
    _check_settings(settings, size, len(network["multipliers"]))
    network["attention"] = tuple(size >> level for level in network["attention"])
    each = "heads" if "heads" in settings else "head_channels"
    network[each] = settings[each]
    widths = [m * network["channels"] for m in network["multipliers"]]
    if settings[each] < 1 or any(w % settings[each] for w in widths):
        raise ValueError(f"{each}={settings[each]}: needs a divisor of the channels {widths}")
    labels = "label_emb.weight"
    classes = shape_of(contents.tensors, labels, 2)[0] if labels in contents.tensors else 0
    channels = contents.tensors["input_blocks.0.0.weight"].shape[1] // (1 + enlarges)
    parts = {"classes": classes, "low": channels * enlarges}
    tensors = table({**network, **parts}, size, settings["order"])
    params = converted(tensors, contents.tensors)
    config = {
        **_process(settings["schedule"], settings["steps"]),
        "network": network,
        "sampling": {
            "sampler": {"name": "ancestral_learned" if network["learn_variance"] else "ancestral"},
            "grid": {"name": "linspace", "total": settings["steps"]},
            "steps": 250,
        },
    }
    config |= enlarging(settings["factor"], "bilinear", bool(classes)) if enlarges else {}
    return Converted(config, (size, size, channels), classes, params, (SAMPLED,))


def _check_settings(settings: Mapping[str, Any], size: int, levels: int) -> None:
    """Raise ValueError for settings that are missing, unknown or out of range."""
    wanted = {
        "schedule": settings.get("schedule"),
        "steps": settings.get("steps"),
        "heads or head_channels": settings.get("heads") or settings.get("head_channels"),
        "size": size,
    }
    if missing := [name for name, value in wanted.items() if not value]:
        raise ValueError(f"{', '.join(missing)}: do not follow from the tensors; set them")
    if settings["schedule"] not in ("linear", "cosine"):
        raise ValueError(f"schedule={settings['schedule']!r}: unknown; known: linear, cosine")
    steps = settings["steps"]
    if steps < 2 or size < 1 or size % 2 ** (levels - 1):
        raise ValueError(
            f"steps={steps}, size={size}: need at least two steps, and a size divisible by "
            f"{2 ** (levels - 1)}"
        )
    if settings["order"] not in ("h3c", "3hc"):
        raise ValueError(f"order={settings['order']!r}: unknown; known: h3c, 3hc")


def _process(schedule: str, steps: int) -> dict[str, Any]:
    """Return the process and the parameterization; noise labels are scaled to 1,000 steps."""
    ends = {"beta_min": 0.1 / steps, "beta_max": 20 / steps} if schedule == "linear" else {}
    entry = {"name": f"ddpm_{schedule}", "steps": steps, **ends}
    label = "index" if steps == 1000 else "rescaled_index"
    return {
        "sde": {"name": "vp", "t_min": 1 / steps, "schedule": entry},
        "parameterization": {"name": "eps", "c_noise": label, "scale_input": False},
    }


MOVES = re.compile(r"output_blocks\.(\d+)\.[1-9]\d*\.(?:.*\.)?(?:conv|in_layers\.0)\.weight")
"""Tensors of the layers that change the resolution at the end of a level."""


def _shapes(tensors: Mapping[str, np.ndarray], enlarges: bool = False) -> dict[str, Any]:
    """Return the settings that follow from the shapes of tensors; `attention` lists levels.

    enlarges: whether half of the input channels are those of a smaller image.
    """
    width = shape_of(tensors, "time_embed.0.weight", 2)[1]
    inputs = len({name.split(".")[1] for name in tensors if name.startswith("input_blocks.")})
    ups = [int(match[1]) for name in tensors if (match := MOVES.fullmatch(name))]
    each = min(ups, default=inputs - 1) + 1  # of a level, with that which changes resolution
    first = range(1, inputs, each)
    widths = [shape_of(tensors, f"input_blocks.{i}.0.out_layers.3.bias", 1)[0] for i in first]
    if not widths or any(w % width for w in widths):
        raise ValueError(f"levels of {widths} channels: needs multiples of {width}")
    inputs_of_first = shape_of(tensors, "input_blocks.0.0.weight", 4)[1]
    channels, odd = divmod(inputs_of_first, 1 + enlarges)
    out = shape_of(tensors, "out.2.weight", 4)
    if odd or channels not in (1, 3) or out[0] not in (channels, 2 * channels):
        hint = "" if enlarges else "; an upsampler needs factor"
        raise ValueError(f"{inputs_of_first} channels to {out[0]}: not supported{hint}")
    moved = f"input_blocks.{each}.0.op.weight" in tensors
    block = shape_of(tensors, "input_blocks.1.0.emb_layers.1.weight", 2)[0]
    return {
        "name": "unet",
        "channels": width,
        "multipliers": tuple(w // width for w in widths),
        "blocks": each - 1,
        "attention": [
            n for n, i in enumerate(first) if f"input_blocks.{i}.1.qkv.weight" in tensors
        ],
        "embedding": "adm",
        "resample": "centred_conv" if moved else "block",
        "scale_shift": block == 2 * widths[0],
        "learn_variance": out[0] == 2 * channels,
        "dropout": 0.0,
    }
