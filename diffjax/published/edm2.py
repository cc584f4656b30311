"""EDM2's networks (arXiv:2312.02696)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.published.tables import Table, interleaved, kernel, matrix, same
from diffjax.published.walk import walk


def radians(w: np.ndarray) -> np.ndarray:
    """Frequencies and phases that have their 2 pi already."""
    return w / (2 * np.pi)


def table(settings: Mapping[str, Any], size: int) -> Table:
    """`settings` of `edm2`."""
    made: Table = {
        "MPEmbedding_0/fourier/frequencies": (radians, "emb_fourier.freqs"),
        "MPEmbedding_0/fourier/phases": (radians, "emb_fourier.phases"),
        "MPEmbedding_0/noise/weight": (matrix, "emb_noise.weight"),
        "first/weight": (kernel, f"enc.{size}x{size}_conv.weight"),
        "last/weight": (kernel, "out_conv.weight"),
        "last/gain": (same, "out_gain"),
    }
    if settings.get("classes"):
        made["MPEmbedding_0/label/weight"] = (matrix, "emb_label.weight")
    # Blocks that change the resolution are counted among the others here.
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
        made[f"{ours}/conv_0/weight"] = (kernel, f"{theirs}.conv_res0.weight")
        made[f"{ours}/conv_1/weight"] = (kernel, f"{theirs}.conv_res1.weight")
        made[f"{ours}/embedding/weight"] = (matrix, f"{theirs}.emb_linear.weight")
        made[f"{ours}/embedding/gain"] = (same, f"{theirs}.emb_gain")
        if step.skip:
            made[f"{ours}/skip/weight"] = (kernel, f"{theirs}.conv_skip.weight")
        if step.attention:
            qkv, rows = f"{theirs}.attn_qkv.weight", interleaved(step.heads, "hc3")
            made[f"{ours}/qkv/weight"] = (lambda w, rows=rows: rows(w)[None, None], qkv)
            made[f"{ours}/out/weight"] = (kernel, f"{theirs}.attn_proj.weight")
    return made
