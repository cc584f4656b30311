"""What share of a network pass are the keys and values of the text?

    python -m experiments.caching.text --out=experiments/caching

Counts the products of a pass without computing them, at the sizes of published networks and of
`emoji_text`. Writes text.json.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.builder.network import construct_network
from diffjax.files import write_text
from diffjax.io.trees import flat
from diffjax.nets.costs import costs
from diffjax.published import pixart, stable
from diffjax.specs import Spec
from experiments.markdown import table
from ml_collections_configs import emoji_text

FILE = "text.json"
KERNELS = re.compile(r"(cross_\d+/[kv]|_keys/kv)/kernel$")
CROSS = ("CrossAttnDownBlock2D",)
XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", *CROSS * 2),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
PIXART = {"caption_channels": 4096, "use_additional_conditions": False}
Sized = tuple[Mapping[str, Any], tuple[Spec, ...], tuple[int, ...], int]


def networks() -> dict[str, Sized]:
    """Return settings, conditions, shape of an item and tokens of a text, by name."""
    unet = lambda **fields: stable.settings(fields)
    dit = lambda size: pixart.settings({**PIXART, "sample_size": size})
    emoji = emoji_text.get_config().to_dict()["network"]
    found: dict[str, Sized] = {
        "emoji_text, 32 pixels": (emoji, (Spec("text", "words", 1000),), (32, 32, 3), 24),
        "Stable Diffusion 1.5, 512 pixels": (*unet(cross_attention_dim=768), 77),
        "SDXL, 1024 pixels": (*unet(**XL), 77),
    }
    for size in (64, 128):
        network, spec, shape = dit(size)
        found[f"PixArt-Sigma, {8 * size} pixels"] = network, (spec,), shape, 300
    return found


def share(network: Any, specs: tuple[Spec, ...], shape: Any, tokens: int) -> dict[str, float]:
    """Return the FLOPs of a pass of one sample, and those of keys and values of its text."""
    like = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
    values = {
        "words": jax.ShapeDtypeStruct((1, tokens), jnp.int32),
        **{s.kind: like(1, tokens, s.size) for s in specs if s.kind == "tokens"},
        **{s.kind: like(1, s.size) for s in specs if s.kind == "vector"},
    }
    given = like(1, *shape), like(1), {s.name: values[s.kind] for s in specs}
    built = construct_network(network, specs, "network")
    params = flat(jax.eval_shape(built.init, jax.random.key(0), *given))
    text = sum(2 * tokens * np.prod(v.shape) for k, v in params.items() if KERNELS.search(k))
    return {"flops": costs(built, *given).flops, "text": float(text)}


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README."""
    rows = json.loads((folder / FILE).read_text())
    heads = ["network", "GFLOP of a pass", "keys and values of the text"]
    lines = [
        [name, f"{row['flops'] / 1e9:,.1f}", f"{row['text'] / row['flops']:.1%}"]
        for name, row in rows.items()
    ]
    return {"caching-text": table(heads, lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    found = {name: share(*sized) for name, sized in networks().items()}
    write_text(out / FILE, json.dumps(found, indent=1) + "\n")
    print(tables(out)["caching-text"])


if __name__ == "__main__":
    main()
