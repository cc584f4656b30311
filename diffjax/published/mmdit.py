"""Tables of the blocks that Stable Diffusion 3 and Flux.1 share (arXiv:2403.03206)."""

from __future__ import annotations

import numpy as np

from diffjax.published.stable import POOLED, TEXT
from diffjax.published.tables import Layout, Table, joined, layer, matrix, same, side_by_side

UNUSED = tuple(f"attn.{name}" for name in ("add_q_proj.weight", "add_q_proj.bias"))
UNUSED += ("attn.norm_added_q.weight",)
"""Tensors of the last block of Stable Diffusion 3 that no output depends on."""
CONDITIONS = {
    TEXT: {"mechanism": "joint", "layers": 1, "null": False},
    POOLED: {"layers": 2, "null": False},
}


def shift_first(w: np.ndarray) -> np.ndarray:
    """Return a layer of scale and shift as the matrix, or the bias, of shift and scale."""
    w = np.roll(w, len(w) // 2, 0)
    return matrix(w) if w.ndim > 1 else w


def embedding() -> Table:
    """Return the entries of the noise label and of the text."""
    above = "time_text_embed"
    return {
        **layer("noise_in", f"{above}.timestep_embedder.linear_1"),
        **layer("noise_out", f"{above}.timestep_embedder.linear_2"),
        **layer(f"vector_{POOLED}", f"{above}.text_embedder.linear_1"),
        **layer(f"vector_{POOLED}_out", f"{above}.text_embedder.linear_2"),
        **layer(f"tokens_{TEXT}", "context_embedder"),
        **layer("modulation", "norm_out.linear", shift_first, shift_first),
    }


def attention(ours: str, *theirs: str, turned: Layout = same) -> Table:
    """Return the entries of queries, keys and values, or of keys and values.

    turned: the order of the rows of queries and keys.
    """

    def layout(*w: np.ndarray) -> np.ndarray:
        return side_by_side(*map(turned, w[:-1]), w[-1])

    return joined(f"{ours}", *theirs, layout=layout)


def norms(ours: str, q: str, k: str, turned: Layout = same, end: str = "") -> Table:
    """Return the entries of the norms of queries and keys."""
    return {
        f"{ours}/q_norm{end}/scale": (turned, f"{q}.weight"),
        f"{ours}/k_norm{end}/scale": (turned, f"{k}.weight"),
    }


def block(
    ours: str,
    theirs: str,
    *,
    qk_norm: bool,
    dual: bool = False,
    last: bool = False,
    turned: Layout = same,
) -> Table:
    """Return the table of a block of two streams.

    ours, theirs: what stands before the names, with `/` and with `.`. dual, last: see
    `TransformerBlock`. turned: the order of the features of a head, by rows of its layers.
    """
    attn, main, text = f"{theirs}attn.", f"{ours}main", f"{ours}tokens"
    entries = {
        **layer(f"{main}/modulation", f"{theirs}norm1.linear"),
        **attention(f"{main}/qkv", *(f"{attn}to_{each}" for each in "qkv"), turned=turned),
        **layer(f"{main}/out", f"{attn}to_out.0"),
        **layer(f"{main}/mlp_in", f"{theirs}ff.net.0.proj"),
        **layer(f"{main}/mlp_out", f"{theirs}ff.net.2"),
    }
    if qk_norm:
        entries |= norms(main, f"{attn}norm_q", f"{attn}norm_k", turned)
        entries |= norms(text, f"{attn}norm_added_q", f"{attn}norm_added_k", turned)
    if dual:
        second = f"{theirs}attn2."
        entries |= attention(f"{main}/qkv_2", *(f"{second}to_{each}" for each in "qkv"))
        entries |= layer(f"{main}/out_2", f"{second}to_out.0")
        entries |= norms(main, f"{second}norm_q", f"{second}norm_k", end="_2") if qk_norm else {}
    added = [f"{attn}add_{each}_proj" for each in ("kv" if last else "qkv")]
    entries |= attention(f"{text}/qkv", *added, turned=turned)
    name = f"{theirs}norm1_context.linear"
    if last:
        entries |= layer(f"{text}/modulation", name, shift_first, shift_first)
        entries.pop(f"{text}/q_norm/scale", None)
        return entries
    return entries | {
        **layer(f"{text}/modulation", name),
        **layer(f"{text}/out", f"{attn}to_add_out"),
        **layer(f"{text}/mlp_in", f"{theirs}ff_context.net.0.proj"),
        **layer(f"{text}/mlp_out", f"{theirs}ff_context.net.2"),
    }
