"""Write the outputs of DiT and of an MM-DiT block, for test_published_dit.py; run by hand.

    pip install torch diffusers
    git clone https://github.com/facebookresearch/DiT
    git -C DiT checkout ed81ce2229091fd4ecc9a223645f95cf379d582b
    PYTHONPATH=DiT python tests/parity/make_dit.py tests/parity/dit.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6. This file contains the three layers
that DiT takes from timm, with the names of timm's tensors.

The file with the results holds no weights: `drawn` draws each tensor but the fixed positions from a
generator seeded by its name, and the test repeats that. It holds names and shapes, inputs and
outputs.
"""

import json
import sys
import types
import zlib
from unittest import mock

import numpy as np

SMALL = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 24, "depth": 3}
SMALL |= {"num_heads": 2, "num_classes": 5, "learn_sigma": True}
WIDTH, HEADS, LENGTHS = 16, 2, (6, 5)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of this name, float32; products with it keep the size of their input."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def redraw(module, prefix: str = "", fixed: tuple[str, ...] = ()) -> str:
    """Replace all tensors but `fixed` by those of their names; names and shapes as JSON."""
    import torch

    shapes = {}
    for name, tensor in module.state_dict().items():
        if name not in fixed:
            shapes[name] = list(tensor.shape)
            tensor.copy_(torch.from_numpy(drawn(prefix + name, tuple(tensor.shape))))
    return json.dumps(shapes)


def timm() -> dict[str, types.ModuleType]:
    """Modules with PatchEmbed, Attention and Mlp, by the names that DiT imports them from."""
    from torch import nn

    class PatchEmbed(nn.Module):
        def __init__(self, size, patch, channels, width, bias):
            super().__init__()
            self.patch_size, self.num_patches = (patch, patch), (size // patch) ** 2
            self.proj = nn.Conv2d(channels, width, patch, patch, bias=bias)

        def forward(self, x):
            return self.proj(x).flatten(2).mT

    class Attention(nn.Module):
        def __init__(self, width, num_heads, qkv_bias):
            super().__init__()
            self.heads = num_heads
            self.qkv, self.proj = (
                nn.Linear(width, 3 * width, bias=qkv_bias),
                nn.Linear(width, width),
            )

        def forward(self, x):
            parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            made = nn.functional.scaled_dot_product_attention(*parts)
            return self.proj(made.transpose(1, 2).flatten(2))

    class Mlp(nn.Module):
        def __init__(self, in_features, hidden_features, act_layer, drop):
            super().__init__()
            self.fc1, self.act = nn.Linear(in_features, hidden_features), act_layer()
            self.fc2 = nn.Linear(hidden_features, in_features)

        def forward(self, x):
            return self.fc2(self.act(self.fc1(x)))

    names = "timm", "timm.models", "timm.models.vision_transformer"
    made = [types.ModuleType(name) for name in names]
    for module in (PatchEmbed, Attention, Mlp):
        setattr(made[-1], module.__name__, module)
    return dict(zip(names, made, strict=True))


def dit() -> dict[str, np.ndarray]:
    import torch

    with mock.patch.dict(sys.modules, timm()):
        from models import DiT
    model, rng = DiT(**SMALL).eval(), np.random.default_rng(0)
    shapes = redraw(model, fixed=("pos_embed",))
    x = rng.normal(size=(4, 4, 8, 8)).astype(np.float32)
    t, y = np.array([0, 3.5, 250, 999], np.float32), np.array([0, 4, 5, 2])
    made = model(*map(torch.from_numpy, (x, t, y)))
    return {
        "shapes": shapes,
        "x": x,
        "t": t,
        "label": y,
        "output": made.numpy(),
        "positions": model.pos_embed[0].numpy(),
    }


def mmdit(last: bool) -> dict[str, np.ndarray]:
    """One block of Stable Diffusion 3.5; the last one leaves the tokens of the text as they are."""
    import torch
    from diffusers.models.attention import JointTransformerBlock

    block = JointTransformerBlock(WIDTH, HEADS, WIDTH // HEADS, last, qk_norm="rms_norm").eval()
    shapes, rng = redraw(block, "block."), np.random.default_rng(1)
    x, tokens = (rng.normal(size=(2, n, WIDTH)).astype(np.float32) for n in LENGTHS)
    c = rng.normal(size=(2, WIDTH)).astype(np.float32)
    made = block(*map(torch.from_numpy, (x, tokens, c)))
    out = {"shapes": shapes, "x": x, "tokens": tokens, "c": c, "output": made[1].numpy()}
    return out if last else out | {"output_tokens": made[0].numpy()}


if __name__ == "__main__":
    import torch

    torch.set_grad_enabled(False)
    parts = {"dit": dit(), "mmdit": mmdit(False), "mmdit_last": mmdit(True)}
    arrays = {f"{part}/{k}": np.asarray(v) for part, made in parts.items() for k, v in made.items()}
    np.savez_compressed(sys.argv[1], **arrays)
