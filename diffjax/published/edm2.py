"""Converter of EDM2's networks (arXiv:2312.02696)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.io.contents import Contents
from diffjax.published.edm import HIGH, LOW, WHOLE, arguments, averaged, ve
from diffjax.published.family import Converted
from diffjax.published.tables import Table, below, converted, interleaved, kernel, matrix, same
from diffjax.published.walk import walk


def radians(w: np.ndarray) -> np.ndarray:
    """Divide by the factor 2 pi that these frequencies and phases already include."""
    return w / (2 * np.pi)


def table(settings: Mapping[str, Any], size: int) -> Table:
    """Return the table for a network with the settings of `edm2`, and images of side `size`."""
    entries: Table = {
        "MPEmbedding_0/fourier/frequencies": (radians, "emb_fourier.freqs"),
        "MPEmbedding_0/fourier/phases": (radians, "emb_fourier.phases"),
        "MPEmbedding_0/noise/weight": (matrix, "emb_noise.weight"),
        "first/weight": (kernel, f"enc.{size}x{size}_conv.weight"),
        "last/weight": (kernel, "out_conv.weight"),
        "last/gain": (same, "out_gain"),
    }
    if settings.get("classes"):
        entries["MPEmbedding_0/label/weight"] = (matrix, "emb_label.weight")
    # Blocks that change the resolution are numbered together with the other blocks.
    moves = {"resample": "block", "head_channels": settings["head_channels"]}
    for n, step in enumerate(s for s in walk({**settings, **moves}, size) if s.kind[-3:] != "rst"):
        if step.kind == "last":
            continue
        res, above = size >> step.level, 2 * size >> step.level
        theirs = {
            "down": f"enc.{res}x{res}_down",
            "encoder": f"enc.{res}x{res}_block{step.i}",
            "middle": f"dec.{res}x{res}_in{step.i}",
            "decoder": f"dec.{res}x{res}_block{step.i}",
            "up": f"dec.{above}x{above}_up",
        }[step.kind]
        ours = f"Block_{n}"
        entries[f"{ours}/conv_0/weight"] = (kernel, f"{theirs}.conv_res0.weight")
        entries[f"{ours}/conv_1/weight"] = (kernel, f"{theirs}.conv_res1.weight")
        entries[f"{ours}/embedding/weight"] = (matrix, f"{theirs}.emb_linear.weight")
        entries[f"{ours}/embedding/gain"] = (same, f"{theirs}.emb_gain")
        if step.skip:
            entries[f"{ours}/skip/weight"] = (kernel, f"{theirs}.conv_skip.weight")
        if step.attention:
            qkv, rows = f"{theirs}.attn_qkv.weight", interleaved(step.heads, "hc3")
            entries[f"{ours}/qkv/weight"] = (lambda w, rows=rows: rows(w)[None, None], qkv)
            entries[f"{ours}/out/weight"] = (kernel, f"{theirs}.attn_proj.weight")
    return entries


DEFAULTS = {
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_blocks": 3,
    "attn_resolutions": [16, 8],
    "channels_per_head": 64,
    "dropout": 0.0,
    "resample_filter": [1, 1],
}
FIXED = {
    "label_balance": 0.5,
    "concat_balance": 0.5,
    "res_balance": 0.3,
    "attn_balance": 0.3,
    "clip_act": 256,
}
GUIDED = "guidance uses this network without the label; the original guides with a second network"


def recognises(contents: Contents) -> bool:
    """Return whether the contents are a network of EDM2."""
    ema = contents.settings.get("ema")
    return isinstance(ema, dict) and ema.get("class") == "Precond" and "unet" in ema


def convert(contents: Contents, steps: int = 32) -> Converted:
    """Convert a pickled `Precond`, its `ema`: on latents (H, W, 4), or images at 64 x 64.

    steps: number of steps of the sampler, as in `edm`. The estimate of the loss (logvar) is left
    out. Raises ValueError for settings that our network does not support.
    """
    net = averaged(contents, "unet", WHOLE, {"Precond": ("sigma_data",)})
    have = arguments(net["unet"]["_init_kwargs"], DEFAULTS | FIXED)
    for name, value in FIXED.items():
        if have[name] != value:
            raise ValueError(f"{name}={have[name]}: needs {value}")
    size, channels, classes = net["img_resolution"], net["img_channels"], net["label_dim"]
    network = {
        "name": "edm2",
        "channels": have["model_channels"],
        "multipliers": tuple(have["channel_mult"]),
        "blocks": have["num_blocks"],
        "attention": tuple(have["attn_resolutions"]),
        "head_channels": have["channels_per_head"],
        "dropout": have["dropout"],
        "kernel": tuple(have["resample_filter"]),
    }
    tensors = below(contents.tensors, "ema.unet.", ("resample_filter",))
    config = {
        "sde": ve(LOW, HIGH),
        "parameterization": {
            "name": "edm",
            "sigma_data": float(net["sigma_data"]),
            "c_noise": "quarter_log_sigma",
        },
        "network": network,
        "sampling": {"sampler": {"name": "heun"}, "grid": {"name": "karras"}, "steps": steps},
    }
    params = converted(table({**network, "classes": classes}, size), tensors)
    kind = "image" if channels == 3 else "latent"  # large networks are for latents of 4 channels
    notes = (GUIDED,) * bool(classes)
    return Converted(config, (size, size, channels), classes, params, notes, kind)
