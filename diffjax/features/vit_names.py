"""Settings and parameters of `features.vit` from the published tensors of DINOv2 and CLIP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import Params
from diffjax.features import vit
from diffjax.io.standard import Standard
from diffjax.nets.network import Features
from diffjax.nets.resize import cubic
from diffjax.published.tables import (
    Layout,
    Table,
    blocks,
    converted,
    fitting,
    layer,
    norm,
    same,
    shape,
    side_by_side,
)

META = "https://dl.fbaipublicfiles.com/dinov2"
DINOV2_B14 = Standard(
    f"{META}/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
    "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
)
DINOV2_L14 = Standard(
    f"{META}/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
)
CLIP_L14 = Standard(
    "https://huggingface.co/openai/clip-vit-large-patch14/resolve/main/model.safetensors",
    "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)
HEAD, KINK = 64, 0.1
"""Features of a head; number that DINOv2 adds to the patches along a side before it resizes
positions."""


class Tower(NamedTuple):
    """A tower: its settings, network and parameters."""

    settings: vit.TowerSettings
    net: Features
    params: Params


def dinov2(tensors: Mapping[str, np.ndarray], size: int = 224) -> Tower:
    """Return the tower of DINOv2 for images of `size` x `size`.

    Positions are resized to this size as the original does.
    """
    width, _, patch, _ = shape(tensors, "patch_embed.proj.weight")
    depth = count(tensors, "blocks.")
    settings = vit.TowerSettings(width, depth, width // HEAD, gated=True, epsilon=1e-6)
    block = layer("blocks/qkv", "blocks.{i}.attn.qkv") | layer("blocks/out", "blocks.{i}.attn.proj")
    for k in (1, 2):
        block |= norm(f"blocks/norm_{k}", f"blocks.{{i}}.norm{k}")
        block |= {f"blocks/scale_{k}": (one_row, f"blocks.{{i}}.ls{k}.gamma")}
    block |= layer("blocks/mlp_in", "blocks.{i}.mlp.fc1")
    block |= layer("blocks/mlp_out", "blocks.{i}.mlp.fc2")
    table: Table = {
        **layer("patches", "patch_embed.proj", patches),
        "positions": (on_grid(size // patch), "cls_token", "pos_embed"),
        **blocks(block, depth),
        **norm("last", "norm"),
    }
    net = vit.image(settings, patch, size, "dinov2")
    x = jnp.zeros((1, size, size, 3), jnp.uint8)
    return Tower(settings, net, fitted(net, x, table, tensors, {"mask_token"}))


def clip_image(tensors: Mapping[str, np.ndarray]) -> Tower:
    """Return the image tower of CLIP from tensors with the names of Hugging Face.

    It is for images of the size that its positions imply.
    """
    model = "vision_model"
    width, _, patch, _ = shape(tensors, f"{model}.embeddings.patch_embedding.weight")
    places, _ = shape(tensors, f"{model}.embeddings.position_embedding.weight")
    settings, table = encoder(tensors, model, width, "visual_projection")
    table |= {
        "patches/kernel": (patches, f"{model}.embeddings.patch_embedding.weight"),
        "positions": (
            first_added,
            f"{model}.embeddings.class_embedding",
            f"{model}.embeddings.position_embedding.weight",
        ),
        **norm("first", f"{model}.pre_layrnorm"),
        **norm("last", f"{model}.post_layernorm"),
    }
    size = math.isqrt(places - 1) * patch
    unused = others(tensors, model, "text_")
    net = vit.image(settings, patch, size, "clip")
    x = jnp.zeros((1, size, size, 3), jnp.uint8)
    return Tower(settings, net, fitted(net, x, table, tensors, unused))


def clip_text(tensors: Mapping[str, np.ndarray]) -> Tower:
    """Return the text tower of CLIP from tensors with the names of Hugging Face."""
    model = "text_model"
    words, width = shape(tensors, f"{model}.embeddings.token_embedding.weight")
    length, _ = shape(tensors, f"{model}.embeddings.position_embedding.weight")
    settings, table = encoder(tensors, model, width, "text_projection", causal=True)
    table |= {
        "words/embedding": (same, f"{model}.embeddings.token_embedding.weight"),
        "positions": (lambda w: w[None], f"{model}.embeddings.position_embedding.weight"),
        **norm("last", f"{model}.final_layer_norm"),
    }
    unused = others(tensors, model, "vis")
    net = vit.text(settings, words, length)
    item = jnp.zeros((1, length), jnp.int32)
    return Tower(settings, net, fitted(net, item, table, tensors, unused))


def encoder(
    tensors: Mapping[str, np.ndarray], model: str, width: int, project: str, causal: bool = False
) -> tuple[vit.TowerSettings, Table]:
    """Return the settings and the table that the towers of CLIP have in common."""
    above = f"{model}.encoder.layers."
    depth, at = count(tensors, above), f"{above}{{i}}."
    features, _ = shape(tensors, f"{project}.weight")
    settings = vit.TowerSettings(
        width, depth, width // HEAD, quick=True, features=features, causal=causal
    )
    parts = [f"{at}self_attn.{k}_proj" for k in "qkv"]
    block: Table = {
        "blocks/qkv/kernel": (side_by_side, *(f"{name}.weight" for name in parts)),
        "blocks/qkv/bias": (side_by_side, *(f"{name}.bias" for name in parts)),
        **layer("blocks/out", f"{at}self_attn.out_proj"),
        **norm("blocks/norm_1", f"{at}layer_norm1"),
        **norm("blocks/norm_2", f"{at}layer_norm2"),
        **layer("blocks/mlp_in", f"{at}mlp.fc1"),
        **layer("blocks/mlp_out", f"{at}mlp.fc2"),
    }
    return settings, blocks(block, depth) | layer("project", project, bias=None)


def fitted(
    net: Features,
    item: jax.Array,
    table: Table,
    tensors: Mapping[str, np.ndarray],
    unused: set[str],
) -> Params:
    """Return the parameters of the network.

    Raises ValueError that names the tensors which do not fit.
    """
    wanted = jax.eval_shape(net.init, jax.random.key(0), item)
    return fitting(converted(table, tensors, unused), wanted)


def count(tensors: Mapping[str, np.ndarray], above: str) -> int:
    """Return the number of blocks whose names begin with `above`."""
    return len({k.removeprefix(above).split(".")[0] for k in tensors if k.startswith(above)})


def others(tensors: Mapping[str, np.ndarray], model: str, tower: str) -> set[str]:
    """Return the names of the other tower, and of tensors that are not weights of this one."""
    theirs = {name for name in tensors if name.startswith(tower)}
    return theirs | {"logit_scale", f"{model}.embeddings.position_ids"}


def patches(w: np.ndarray) -> np.ndarray:
    """Return the kernel of a convolution (O, C, p, p) as the matrix (p p C, O) of a layer."""
    return w.transpose(2, 3, 1, 0).reshape(-1, len(w))


def one_row(w: np.ndarray) -> np.ndarray:
    """Return the vector as (1, 1, W)."""
    return w[None, None]


def first_added(first: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return positions (1, 1 + N, W) of all tokens; the first includes the token's embedding."""
    added = np.array(positions, np.float32).reshape(1, -1, positions.shape[-1])
    added[0, 0] += first.reshape(-1)
    return added


def on_grid(side: int) -> Layout:
    """Return the layout `first_added` for `side` x `side` patches."""

    def layout(first: np.ndarray, positions: np.ndarray) -> np.ndarray:
        known = math.isqrt(positions.shape[1] - 1)
        grid = positions[0, 1:].reshape(known, known, -1)
        if known != side:
            weights = cubic(known, side, (side + KINK) / known)
            grid = np.einsum("ih,jw,hwc->ijc", weights, weights, grid)
        flat = grid.reshape(1, side**2, -1)
        return first_added(first, np.concatenate([positions[:, :1], flat], 1))

    return layout
