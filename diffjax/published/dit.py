"""Converters of DiT (arXiv:2212.09748) and SiT (arXiv:2401.08740), transformers on latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.arrays import Params
from diffjax.io.contents import Contents
from diffjax.nets.dit import SIZES
from diffjax.nets.positions import sincos
from diffjax.published.family import Converted
from diffjax.published.tables import Table, blocks, converted, layer, with_null
from diffjax.published.tables import shape as form

POSITIONS, LABELS = "pos_embed", "y_embedder.embedding_table.weight"
HEADS = {(width, depth): heads for width, depth, heads in SIZES.values()}
GUIDED = "guidance acts on all channels; the original code guides the first three of four"


def patches(w: np.ndarray) -> np.ndarray:
    """Return the kernel of a convolution (out, C, p, p) as the matrix (p p C, out) of a layer."""
    return w.transpose(2, 3, 1, 0).reshape(-1, len(w))


def null_first(w: np.ndarray) -> np.ndarray:
    """Move the last row, the null class, to the front, where our label table has it."""
    return np.roll(w, 1, 0)


def table(depth: int, patch: int, channels: int, sign: int = 1, outputs: int = 2) -> Table:
    """Return the table for a network of `depth` blocks.

    sign: the sign of the output. outputs: number of outputs, of `channels` each, that are kept.
    """

    def last(w: np.ndarray) -> np.ndarray:
        """Return the last layer with rows (outputs, p p, C), from rows (p p, outputs, C)."""
        parts = w.reshape(patch**2, -1, channels, *w.shape[1:])[:, :outputs]
        return sign * parts.swapaxes(0, 1).reshape(-1, *w.shape[1:]).T

    block = layer("blocks/main/modulation", "blocks.{i}.adaLN_modulation.1")
    block |= layer("blocks/main/qkv", "blocks.{i}.attn.qkv")
    block |= layer("blocks/main/out", "blocks.{i}.attn.proj")
    block |= layer("blocks/main/mlp_in", "blocks.{i}.mlp.fc1")
    block |= layer("blocks/main/mlp_out", "blocks.{i}.mlp.fc2")
    return {
        **layer("patches", "x_embedder.proj", patches),
        **layer("noise_in", "t_embedder.mlp.0"),
        **layer("noise_out", "t_embedder.mlp.2"),
        "label/embedding": (null_first, LABELS),
        **blocks(block, depth),
        **layer("modulation", "final_layer.adaLN_modulation.1"),
        **layer("out", "final_layer.linear", last, last),
    }


MARKS = ("x_embedder.proj.weight", LABELS)
"""Tensors of both DiT and SiT: only the name of the file, or the reader, can tell them apart."""


def dit(contents: Contents, heads: int = 0, size: int = 0, null: bool = True) -> Converted:
    """Convert DiT, on 1,000 linear betas, with its learned variance.

    heads: number of heads, for a network that has none of the published sizes. size: side of the
    latents, which the published tensors state (`pos_embed`). null: whether the last row of labels
    is the null class, as where labels were dropped in training; without it there is no guidance.
    Guidance is for all channels here, where the original code guides the first three of four.
    Raises ValueError for tensors that do not fit.
    """
    params, network, shape, classes = _network(contents, heads, size, null)
    two = network["learn_variance"]
    config = {
        "data": {"name": "latents:latents", "scale": 0.18215, "labels": bool(classes)},
        "sde": {"name": "vp", "t_min": 1e-3, "schedule": {"name": "ddpm_linear", "steps": 1000}},
        "parameterization": {"name": "eps", "c_noise": "index", "scale_input": False},
        "network": network,
        "sampling": {
            "sampler": {"name": "ancestral_learned" if two else "ancestral"},
            "grid": {"name": "linspace", "total": 1000},
            "steps": 250,
            **_guidance(classes * null),
        },
    }
    return Converted(config, shape, classes, params, (GUIDED,) * bool(classes), "latent")


def sit(contents: Contents, heads: int = 0, size: int = 0, null: bool = True) -> Converted:
    """Convert SiT (arXiv:2401.08740), the velocity of the straight path from noise to data.

    The time of SiT is 1 - t here, so its velocity is that of `flow` with the other sign, which the
    last layer absorbs. The second output, which is not used, is left out. The settings are those of
    `dit`.
    """
    params, network, shape, classes = _network(contents, heads, size, null, sign=-1, outputs=1)
    config = {
        "data": {"name": "latents:latents", "scale": 0.18215, "labels": bool(classes)},
        "sde": {"name": "flow", "t_min": 1e-3, "schedule": {"name": "logit"}},
        "parameterization": {"name": "velocity", "c_noise": "one_minus_t", "scale_input": False},
        "network": network,
        "sampling": {
            "sampler": {"name": "heun_t"},
            "grid": {"name": "trailing", "total": 1000},
            "steps": 125,
            **_guidance(classes * null),
        },
    }
    return Converted(config, shape, classes, params, (GUIDED,) * bool(classes), "latent")


def _guidance(classes: int) -> dict[str, float]:
    """Return the guidance weight of the original, if there are labels."""
    return {"guidance": 1.5} if classes else {}


def _network(
    contents: Contents, heads: int, size: int, null: bool, sign: int = 1, outputs: int = 2
) -> tuple[Params, dict[str, Any], tuple[int, ...], int]:
    """Return parameters, settings, shape of the latents and classes, from the tensors."""
    tensors = contents.tensors
    width, channels, patch, other = form(tensors, "x_embedder.proj.weight", 4)
    if patch != other or width % 4:
        raise ValueError(f"patches of {patch} x {other} to {width} channels: not supported")
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    rows, each = form(tensors, "final_layer.linear.bias", 1)[0], patch**2 * channels
    if rows not in (each, 2 * each):
        raise ValueError(f"final_layer.linear: has {rows} outputs; needs {each} or {2 * each}")
    outputs = min(outputs, rows // each)
    if not heads and (width, depth) not in HEADS:
        known = ", ".join(f"{n} ({w} x {d})" for (w, d), n in HEADS.items())
        raise ValueError(f"heads: unknown for {width} x {depth}; set heads=N; published: {known}")
    heads = heads or HEADS[width, depth]
    if heads < 1 or width % heads:
        raise ValueError(f"heads={heads}: needs a divisor of the {width} channels")
    network = {
        "name": "dit",
        "width": width,
        "depth": depth,
        "heads": heads,
        "patch": patch,
        "learn_variance": outputs == 2,
    }
    size = _size(tensors, width, size // patch) * patch
    labels = form(tensors, LABELS, 2)[0]
    classes = labels - null
    rows_of = table(depth, patch, channels, sign, outputs)
    if not null:
        rows_of["label/embedding"] = (with_null, LABELS)
    if not classes:  # one label is a constant, so it is added to the embedding of the noise level
        del rows_of["label/embedding"]
        rows_of["noise_out/bias"] = (lambda b, w: b + w[0], "t_embedder.mlp.2.bias", LABELS)
    params = converted(rows_of, tensors, {POSITIONS})
    return params, network, (size, size, channels), classes


def _size(tensors: Mapping[str, np.ndarray], width: int, stated: int) -> int:
    """Return the number of patches along a side.

    Raises ValueError where the positions are not the fixed ones of our network.
    """
    if POSITIONS not in tensors:
        return stated or 16
    positions = np.asarray(tensors[POSITIONS], np.float32)
    side = math.isqrt(max(positions.size // width, 1))
    if positions.size != side**2 * width:
        raise ValueError(f"{POSITIONS}: {positions.shape} is not a square of {width} channels")
    if stated not in (0, side):
        raise ValueError(f"size: {POSITIONS} has {side} x {side} patches, not {stated} x {stated}")
    away = np.abs(positions.reshape(-1, width) - np.asarray(sincos((side, side), width))).max()
    if not away <= max(1e-4, rounding(positions)):
        raise ValueError(
            f"{POSITIONS}: needs the fixed sines and cosines; others are not supported"
        )
    return side


def rounding(values: np.ndarray) -> float:
    """Return the unit of the last digit of values up to 1 in the type that they were stored in.

    They may have been stored in fewer digits than they have here: bfloat16, float16 or float32.
    """
    if not (values.view(np.uint32) & 0xFFFF).any():
        return 2.0**-8
    return 2.0**-11 if (values.astype(np.float16) == values).all() else 2.0**-24
