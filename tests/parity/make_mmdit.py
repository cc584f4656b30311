"""Write the outputs of the networks of Stable Diffusion 3 and Flux.1, for test_mmdit_parity.py.

    pip install torch diffusers
    python tests/parity/make_mmdit.py tests/parity/mmdit.npz

Made by hand with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6.

Small networks on latents that are not square. The file holds names, shapes and outputs, but no
weights (see `make_dit.py`); `names/...` hold those of the full sizes, made without weights, for one
block of each kind, and the number of blocks.
"""

import json
import re
import sys
from typing import Any

import numpy as np
from make_dit import redraw

B, CHANNELS, SIDES, TOKENS, TEXT, POOLED = 2, 4, (6, 10), 5, 12, 7
SIGMA = np.array([0.9, 0.2], np.float32)
WEIGHT = np.array([3.5, 1.0], np.float32)
"""Of guidance, for the network that takes it."""
POSITIONS = "pos_embed.pos_embed"
SD3 = {"sample_size": 8, "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 3}
SD3 |= {"attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16}
SD3 |= {"joint_attention_dim": TEXT, "pooled_projection_dim": POOLED, "pos_embed_max_size": 6}
FLUX: dict[str, Any] = {"in_channels": 4 * CHANNELS, "num_layers": 2, "num_single_layers": 2}
FLUX |= {"attention_head_dim": 8, "num_attention_heads": 2, "axes_dims_rope": (2, 4, 2)}
FLUX |= {"joint_attention_dim": TEXT, "pooled_projection_dim": POOLED}
CASES: dict[str, dict[str, Any]] = {
    "sd3": SD3,
    "sd35": SD3 | {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
    "flux_dev": FLUX | {"guidance_embeds": True},
    "flux_schnell": FLUX,
}
FULL: dict[str, dict[str, Any]] = {
    "sd3_medium": {"num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 192}
    | {"caption_projection_dim": 1536},
    "sd35_large": {"num_layers": 38, "num_attention_heads": 38, "pos_embed_max_size": 192}
    | {"caption_projection_dim": 2432, "qk_norm": "rms_norm"},
    "sd35_medium": {"num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 384}
    | {"caption_projection_dim": 1536, "qk_norm": "rms_norm"}
    | {"dual_attention_layers": tuple(range(13))},
    "flux_dev": {"guidance_embeds": True},
    "flux_schnell": {},
}


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (B, C, H, W), text (B, L, TEXT) and pooled text (B, POOLED)."""
    rng = np.random.default_rng(0)
    shapes = (B, CHANNELS, *SIDES), (B, TOKENS, TEXT), (B, POOLED)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)  # type: ignore


def module(name: str, settings: dict[str, Any]) -> Any:
    import diffusers

    kind = "FluxTransformer2DModel" if name.startswith("flux") else "SD3Transformer2DModel"
    return getattr(diffusers, kind)(**settings).eval()


def packed(x: Any) -> Any:
    """Fold squares of latents into tokens, as the pipeline of Flux.1 does."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, 4 * c)


def unpacked(x: Any) -> Any:
    (h, w), b = (n // 2 for n in SIDES), len(x)
    x = x.reshape(b, h, w, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(b, -1, *SIDES)


def places(h: int, w: int) -> Any:
    """The numbers of rows and columns of tokens."""
    import torch

    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([torch.zeros(h * w), rows.ravel(), columns.ravel()], -1)


def case(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    net = module(name, settings)
    shapes = redraw(net)
    x, text, pooled = map(torch.from_numpy, inputs())
    sigma = torch.from_numpy(SIGMA)
    if name.startswith("flux"):
        weight = torch.from_numpy(WEIGHT) if settings.get("guidance_embeds") else None
        out = net(
            packed(x),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=sigma,
            guidance=weight,
            txt_ids=torch.zeros(TOKENS, 3),
            img_ids=places(*(n // 2 for n in SIDES)),
        ).sample
        out = unpacked(out)
    else:
        out = net(x, text, pooled, 1000 * sigma).sample
    config = {
        "_class_name": type(net).__name__,
        **{k: v for k, v in net.config.items() if k[0] != "_"},
    }
    return {"shapes": shapes, "config": json.dumps(config), "output": out.numpy()}


def names() -> dict[str, str]:
    """Configs, names and shapes of the full sizes, of blocks 0, the last, and one between them."""
    import torch

    made = {}
    with torch.device("meta"):
        for name, settings in FULL.items():
            net = module(name, settings)
            shapes: dict[str, Any] = {k: list(v.shape) for k, v in net.state_dict().items()}
            kinds: dict[str, Any] = {}
            for key, shape in shapes.items():
                plain = re.sub(r"blocks\.(\d+)\.", "blocks.{}.", key)
                number = re.search(r"blocks\.(\d+)\.", key)
                entry = kinds.setdefault(f"{plain} {shape}", [])
                entry += [int(number[1])] if number else []
            # Each name with its shape, and the numbers of the blocks that have it.
            rows = [[*k.split(" ", 1), f"{min(v)}-{max(v)}" if v else ""] for k, v in kinds.items()]
            assert all(sorted(v) == [*range(min(v), max(v) + 1)] for v in kinds.values() if v)
            made[f"{name}/shapes"] = json.dumps(rows)
            config = {k: v for k, v in net.config.items() if k[0] != "_"}
            made[f"{name}/config"] = json.dumps(config)
            made[f"{name}/parameters"] = str(sum(p.numel() for p in net.parameters()))
    return made


if __name__ == "__main__":
    import torch

    torch.set_grad_enabled(False)
    parts = {name: case(name, settings) for name, settings in CASES.items()}
    arrays = {f"{part}/{k}": np.asarray(v) for part, made in parts.items() for k, v in made.items()}
    arrays |= {f"names/{k}": np.asarray(v) for k, v in names().items()}
    np.savez_compressed(sys.argv[1], **arrays)
