"""Table from the tensors of diffusers' `JointTransformerBlock` to the parameters of our block."""

import numpy as np

from diffjax.published.tables import Table, layer, same, side_by_side


def joined(ours: str, *theirs: str) -> Table:
    """Join layers side by side."""
    return {
        f"{ours}/{leaf}": (side_by_side, *(f"{name}.{part}" for name in theirs))
        for leaf, part in (("kernel", "weight"), ("bias", "bias"))
    }


def shift_first(w):
    """Reorder scale and shift to shift and scale."""
    return np.roll(w, len(w) // 2, 0).T


_BOTH = {
    **layer("main/modulation", "norm1.linear"),
    **joined("main/qkv", "attn.to_q", "attn.to_k", "attn.to_v"),
    **layer("main/out", "attn.to_out.0"),
    **layer("main/mlp_in", "ff.net.0.proj"),
    **layer("main/mlp_out", "ff.net.2"),
    "main/q_norm/scale": (same, "attn.norm_q.weight"),
    "main/k_norm/scale": (same, "attn.norm_k.weight"),
    "tokens/k_norm/scale": (same, "attn.norm_added_k.weight"),
}
MMDIT = {
    **_BOTH,
    **layer("tokens/modulation", "norm1_context.linear"),
    **joined("tokens/qkv", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    **layer("tokens/out", "attn.to_add_out"),
    **layer("tokens/mlp_in", "ff_context.net.0.proj"),
    **layer("tokens/mlp_out", "ff_context.net.2"),
    "tokens/q_norm/scale": (same, "attn.norm_added_q.weight"),
}
"""A block of arXiv:2403.03206."""
MMDIT_LAST = {
    **_BOTH,
    **layer("tokens/modulation", "norm1_context.linear", shift_first, shift_first),
    **joined("tokens/qkv", "attn.add_k_proj", "attn.add_v_proj"),
}
"""Its last block. The queries of its tokens have no effect, and are left out."""
UNUSED = {"attn.add_q_proj.weight", "attn.add_q_proj.bias", "attn.norm_added_q.weight"}
