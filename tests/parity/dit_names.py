"""Where the tensors of published transformers go in ours: name of ours, theirs, and the change.

`{i}` counts blocks, which are stacked here. Several names of theirs are joined along the output.
"""

from collections.abc import Callable, Mapping

import numpy as np

Tensors = Mapping[str, np.ndarray]
Row = tuple[str, tuple[str, ...], Callable[..., np.ndarray]]


def same(a: np.ndarray, **form: int) -> np.ndarray:
    return a


def kernel(a: np.ndarray, **form: int) -> np.ndarray:
    """(out, in) to (in, out)."""
    return a.T


def patches(a: np.ndarray, **form: int) -> np.ndarray:
    """A convolution (out, C, p, p) to (p p C, out)."""
    return a.transpose(2, 3, 1, 0).reshape(-1, len(a))


def null_first(a: np.ndarray, **form: int) -> np.ndarray:
    """Our null class is the first."""
    return np.roll(a, 1, 0)


def outputs_first(a: np.ndarray, *, patch: int, channels: int) -> np.ndarray:
    """Rows (p p, outputs, C) to (outputs, p p, C)."""
    parts = a.reshape(patch**2, -1, channels, *a.shape[1:])
    return parts.swapaxes(0, 1).reshape(a.shape)


def last_kernel(a: np.ndarray, **form: int) -> np.ndarray:
    return outputs_first(a, **form).T


def shift_first(a: np.ndarray, **form: int) -> np.ndarray:
    """Scale and shift to shift and scale."""
    return np.roll(a, len(a) // 2, 0)


def shift_first_kernel(a: np.ndarray, **form: int) -> np.ndarray:
    return shift_first(a).T


def layer(ours: str, *theirs: str, kernel=kernel, bias=same) -> list[Row]:
    """Both tensors of a linear layer."""
    return [
        (f"{ours}/kernel", tuple(f"{name}.weight" for name in theirs), kernel),
        (f"{ours}/bias", tuple(f"{name}.bias" for name in theirs), bias),
    ]


DIT = [
    *layer("patches", "x_embedder.proj", kernel=patches),
    *layer("noise_in", "t_embedder.mlp.0"),
    *layer("noise_out", "t_embedder.mlp.2"),
    ("label/embedding", ("y_embedder.embedding_table.weight",), null_first),
    *layer("blocks/main/modulation", "blocks.{i}.adaLN_modulation.1"),
    *layer("blocks/main/qkv", "blocks.{i}.attn.qkv"),
    *layer("blocks/main/out", "blocks.{i}.attn.proj"),
    *layer("blocks/main/mlp_in", "blocks.{i}.mlp.fc1"),
    *layer("blocks/main/mlp_out", "blocks.{i}.mlp.fc2"),
    *layer("modulation", "final_layer.adaLN_modulation.1"),
    *layer("out", "final_layer.linear", kernel=last_kernel, bias=outputs_first),
]
"""arXiv:2212.09748, github.com/facebookresearch/DiT. Its positions are fixed."""

_BOTH = [
    *layer("main/modulation", "norm1.linear"),
    *layer("main/qkv", "attn.to_q", "attn.to_k", "attn.to_v"),
    *layer("main/out", "attn.to_out.0"),
    *layer("main/mlp_in", "ff.net.0.proj"),
    *layer("main/mlp_out", "ff.net.2"),
    ("main/q_norm/scale", ("attn.norm_q.weight",), same),
    ("main/k_norm/scale", ("attn.norm_k.weight",), same),
    ("tokens/k_norm/scale", ("attn.norm_added_k.weight",), same),
]
MMDIT = [
    *_BOTH,
    *layer("tokens/modulation", "norm1_context.linear"),
    *layer("tokens/qkv", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    *layer("tokens/out", "attn.to_add_out"),
    *layer("tokens/mlp_in", "ff_context.net.0.proj"),
    *layer("tokens/mlp_out", "ff_context.net.2"),
    ("tokens/q_norm/scale", ("attn.norm_added_q.weight",), same),
]
"""A block of arXiv:2403.03206, as diffusers' `JointTransformerBlock`."""
MMDIT_LAST = [
    *_BOTH,
    *layer(
        "tokens/modulation", "norm1_context.linear", kernel=shift_first_kernel, bias=shift_first
    ),
    *layer("tokens/qkv", "attn.add_k_proj", "attn.add_v_proj"),
]
"""Its last block. The queries of its tokens have no effect, and are left out."""


def ours(rows: list[Row], tensors: Tensors, depth: int = 0, **form: int) -> dict:
    """The nested dict of our parameters that these tensors make.

    form: patch and channels. Raises KeyError for a tensor that is not there.
    """
    made: dict = {}
    for name, theirs, change in rows:
        stacked = "{i}" in theirs[0]
        blocks = [
            change(np.concatenate([tensors[part.format(i=i)] for part in theirs]), **form)
            for i in range(depth if stacked else 1)
        ]
        *path, leaf = name.split("/")
        node = made
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = np.stack(blocks) if stacked else blocks[0]
    return made


def used(rows: list[Row], depth: int = 0) -> set[str]:
    """Names of all tensors that `ours` reads."""
    return {
        part.format(i=i) for _, parts, _ in rows for part in parts for i in range(max(depth, 1))
    }
