"""EDM's networks: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM) (arXiv:2206.00364)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.published.tables import (
    Table,
    conv,
    interleaved,
    kernel,
    layer,
    matrix,
    norm,
    same,
    with_null,
)
from diffjax.published.walk import Step, head, walk


def one_hot(w: np.ndarray) -> np.ndarray:
    """The rows of a layer (O, classes) on one-hot labels."""
    return with_null(w.T)


def scaled_one_hot(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Those of a layer on one-hot labels of norm sqrt(classes)."""
    return with_null(w.T * np.sqrt(w.shape[1])) + b


def _block(step: Step, theirs: str) -> Table:
    made = norm(f"{step.ours}/GroupNorm_0", f"{theirs}.norm0")
    made |= conv(f"{step.ours}/Conv_0", f"{theirs}.conv0")
    made |= layer(f"{step.ours}/Dense_0", f"{theirs}.affine")
    made |= norm(f"{step.ours}/GroupNorm_1", f"{theirs}.norm1")
    made |= conv(f"{step.ours}/Conv_1", f"{theirs}.conv1")
    if step.skip:
        made |= layer(f"{step.ours}/skip", f"{theirs}.skip")
    if step.attention:
        qkv = interleaved(step.heads, "hc3")
        made |= norm(f"{step.attention}/GroupNorm_0", f"{theirs}.norm2")
        made |= layer(f"{step.attention}/qkv", f"{theirs}.qkv", qkv, qkv)
        made |= layer(f"{step.attention}/out", f"{theirs}.proj")
    return made


def table(settings: Mapping[str, Any], size: int) -> Table:
    song, ours = settings.get("early_conditions", False), "Embedding_0"
    made = layer(f"{ours}/Dense_0", "map_layer0") | layer(f"{ours}/Dense_1", "map_layer1")
    if settings.get("embedding") == "fourier":
        made[f"{ours}/fourier/frequencies"] = (same, "map_noise.freqs")
    if settings.get("classes"):
        label = (scaled_one_hot, "map_label.weight", "map_label.bias")
        made[f"{ours}/label/embedding"] = label if song else (one_hot, "map_label.weight")
    if settings.get("augment"):
        made |= layer(f"{ours}/augment", "map_augment", bias=None)
    for step in walk(settings, size):
        place = f"{size >> step.level}x{size >> step.level}"
        above = f"{2 * size >> step.level}x{2 * size >> step.level}"
        if step.kind == "first":
            made |= conv(step.ours, f"enc.{place}_conv")
        elif step.kind == "last":
            names = ("out_norm", "out_conv")
            names = (f"dec.{place}_aux_norm", f"dec.{place}_aux_conv") if song else names
            made |= head(step, *names)
        else:
            theirs = {
                "down": f"enc.{place}_down",
                "encoder": f"enc.{place}_block{step.i}",
                "middle": f"dec.{place}_in{step.i}",
                "decoder": f"dec.{place}_block{step.i}",
                "up": f"dec.{above}_up",
            }[step.kind]
            made |= _block(step, theirs)
        pyramid = settings.get("input_pyramid", "none")
        if step.kind == "down" and pyramid != "none":
            aux, layout = f"enc.{place}_aux_{pyramid}", kernel if pyramid == "residual" else matrix
            made |= layer(f"input_{step.level}", aux, layout)
    return made
