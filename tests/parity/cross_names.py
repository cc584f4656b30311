"""Tables from the tensors of diffusers' networks with cross-attention to our parameters."""

import numpy as np

from diffjax.published import diffusers
from diffjax.published.dit import patches
from diffjax.published.tables import Table, blocks, layer, norm, side_by_side


def transformer(depth: int, ours: str = "", theirs: str = "") -> Table:
    """`Transformer2DModel`. ours, theirs: before the names, with `/` and with `.`."""
    table = norm(f"{ours}GroupNorm_0", f"{theirs}norm")
    table |= layer(f"{ours}in", f"{theirs}proj_in")
    table |= layer(f"{ours}out", f"{theirs}proj_out")
    for i in range(depth):
        block = f"{theirs}transformer_blocks.{i}"
        for k, part in enumerate(("self", "cross", "mlp"), 1):
            table |= norm(f"{ours}{part}_norm_{i}", f"{block}.norm{k}")
        for k, part in enumerate(("self", "cross"), 1):
            for each in "qkv":
                table |= layer(f"{ours}{part}_{i}/{each}", f"{block}.attn{k}.to_{each}", bias=None)
            table |= layer(f"{ours}{part}_{i}/out", f"{block}.attn{k}.to_out.0")
        table |= layer(f"{ours}mlp_in_{i}", f"{block}.ff.net.0.proj")
        table |= layer(f"{ours}mlp_out_{i}", f"{block}.ff.net.2")
    return table


def unet(settings: dict, size: int) -> Table:
    """`UNet2DConditionModel`: that of `UNet2DModel` with a transformer for each attention."""
    plain = diffusers.table(settings, size)
    table = {path: row for path, row in plain.items() if not path.startswith("SelfAttention")}
    for path, (_, name, *_) in plain.items():
        if path.startswith("SelfAttention") and path.endswith("GroupNorm_0/scale"):
            ours = path.replace("SelfAttention", "Transformer").removesuffix("GroupNorm_0/scale")
            table |= transformer(1, ours, name.removesuffix("group_norm.weight"))
    return table


def pixart(depth: int, channels: int, embedded: np.ndarray) -> Table:
    """`PixArtTransformer2DModel`.

    All its blocks share the layer that modulates them, and add a table of their own to its output:
    our layers of this kernel, with biases that differ. Its last modulation is a table plus
    `embedded` (B, width), the embedding of the noise label without an activation, where we have a
    layer of silu(embedded): of those that agree for these B samples the smallest stands for it.
    """

    def shared(weight: np.ndarray, table: np.ndarray) -> np.ndarray:
        return weight.T

    def biases(bias: np.ndarray, table: np.ndarray) -> np.ndarray:
        return bias + table.ravel()

    def fitted(table: np.ndarray) -> np.ndarray:
        c = embedded / (1 + np.exp(-embedded))
        return np.linalg.pinv(c) @ np.concatenate([embedded, embedded], 1)

    def last(w: np.ndarray) -> np.ndarray:
        """Reorder rows from (p p, two outputs, C) to (two outputs, p p, C)."""
        return w.reshape(-1, 2, channels, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape).T

    theirs, modulation, table = "transformer_blocks.{i}", "adaln_single.linear", "scale_shift_table"
    block: Table = {}
    for leaf, part, layout in (("kernel", "weight", shared), ("bias", "bias", biases)):
        names = f"{modulation}.{part}", f"{theirs}.{table}"
        block[f"blocks/main/modulation/{leaf}"] = (layout, *names)
        for ours, attention, heads in (("main/qkv", "attn1", "qkv"), ("cross/kv", "attn2", "kv")):
            rows = (f"{theirs}.{attention}.to_{each}.{part}" for each in heads)
            block[f"blocks/{ours}/{leaf}"] = (side_by_side, *rows)
    block |= layer("blocks/main/out", f"{theirs}.attn1.to_out.0")
    block |= layer("blocks/cross/q", f"{theirs}.attn2.to_q")
    block |= layer("blocks/cross/out", f"{theirs}.attn2.to_out.0")
    block |= layer("blocks/main/mlp_in", f"{theirs}.ff.net.0.proj")
    block |= layer("blocks/main/mlp_out", f"{theirs}.ff.net.2")
    return {
        **layer("patches", "pos_embed.proj", patches),
        **layer("noise_in", "adaln_single.emb.timestep_embedder.linear_1"),
        **layer("noise_out", "adaln_single.emb.timestep_embedder.linear_2"),
        **layer("tokens", "caption_projection.linear_1"),
        **layer("tokens_out", "caption_projection.linear_2"),
        **blocks(block, depth),
        "modulation/kernel": (fitted, table),
        "modulation/bias": (np.ravel, table),
        **layer("out", "proj_out", last, last),
    }
