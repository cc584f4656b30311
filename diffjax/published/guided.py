"""The networks of improved- and guided-diffusion (arXiv:2102.09672, 2105.05233)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.published.tables import Table, conv, interleaved, layer, norm, with_null
from diffjax.published.walk import Step, head, walk


def table(settings: Mapping[str, Any], size: int, order: str = "h3c") -> Table:
    """order: "3hc" for models with `use_new_attention_order`."""
    ours = "Embedding_0"
    made = layer(f"{ours}/Dense_0", "time_embed.0") | layer(f"{ours}/Dense_1", "time_embed.2")
    if settings.get("classes"):
        made[f"{ours}/label/embedding"] = (with_null, "label_emb.weight")
    inputs, outs, part = -1, -1, 0
    for step in walk(settings, size):
        if step.kind in ("first", "encoder", "down"):
            inputs += 1
            theirs, around = f"input_blocks.{inputs}", 1
        elif step.kind == "middle":
            theirs, around, part = "middle_block", 1, 2 * step.i
        elif step.kind == "decoder":
            outs += 1
            theirs, around, part = f"output_blocks.{outs}", 1, 0
        elif step.kind == "up":
            theirs, around = f"output_blocks.{outs}", 0
        else:
            made |= head(step, "out.0", "out.2")
            continue
        if step.kind in ("first", "encoder", "down"):
            part = 0
        if step.kind == "first" or step.ours.startswith("Conv"):
            inner = {"first": "", "down": ".op", "up": ".conv"}[step.kind]
            made |= conv(step.ours, f"{theirs}.{part}{inner}")
        else:
            made |= _block(step, f"{theirs}.{part}")
        part += around
        if step.attention:
            made |= _attention(step, f"{theirs}.{part}", order)
            part += 1
    return made


def _block(step: Step, theirs: str) -> Table:
    made = norm(f"{step.ours}/GroupNorm_0", f"{theirs}.in_layers.0")
    made |= conv(f"{step.ours}/Conv_0", f"{theirs}.in_layers.2")
    made |= layer(f"{step.ours}/Dense_0", f"{theirs}.emb_layers.1")
    made |= norm(f"{step.ours}/GroupNorm_1", f"{theirs}.out_layers.0")
    made |= conv(f"{step.ours}/Conv_1", f"{theirs}.out_layers.3")
    return made | (layer(f"{step.ours}/skip", f"{theirs}.skip_connection") if step.skip else {})


def _attention(step: Step, theirs: str, order: str) -> Table:
    qkv = interleaved(step.heads, order)
    made = norm(f"{step.attention}/GroupNorm_0", f"{theirs}.norm")
    made |= layer(f"{step.attention}/qkv", f"{theirs}.qkv", qkv, qkv)
    return made | layer(f"{step.attention}/out", f"{theirs}.proj_out")
