"""Tables from the tensors of diffusers' networks with cross-attention to our parameters."""

from diffjax.published import diffusers
from diffjax.published.tables import Table, layer, norm


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
