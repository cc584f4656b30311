"""Write the outputs of published networks with cross-attention, for test_cross_parity.py, by hand.

    pip install torch diffusers
    python tests/parity/make_cross.py tests/parity/cross.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6.

The networks are the transformer of Stable Diffusion's U-Net alone, a small U-Net with it, and a
small PixArt. The last token of the first sample is masked. The file holds names, shapes and
outputs, but no weights; see `make_dit.py`.
"""

import sys

import numpy as np
from make_dit import redraw

B, SIZE, CHANNELS, WIDTH, HEADS, TOKENS, TEXT = 2, 8, 4, 16, 2, 3, 6
C_NOISE = np.array([3.5, 250.0], np.float32)
UNET = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4}
PIXART = {"num_attention_heads": HEADS, "attention_head_dim": WIDTH // HEADS, "num_layers": 2}


def inputs(channels: int = CHANNELS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (B, C, H, W), tokens (B, L, TEXT), and which of them are there (B, L)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, channels, SIZE, SIZE)).astype(np.float32)
    tokens = rng.normal(size=(B, TOKENS, TEXT)).astype(np.float32)
    return x, tokens, np.array([[1, 1, 0], [1, 1, 1]], np.float32)


def transformer() -> dict[str, np.ndarray | str]:
    """Two blocks: self-attention, cross-attention, GEGLU feed-forward (arXiv:2112.10752)."""
    import torch
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    module = Transformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=WIDTH,
        num_layers=2,
        norm_num_groups=4,
        cross_attention_dim=TEXT,
    ).eval()
    shapes = redraw(module)
    x, tokens, there = map(torch.from_numpy, inputs(WIDTH))
    out = module(x, encoder_hidden_states=tokens, encoder_attention_mask=_bias(there)).sample
    return {"shapes": shapes, "output": out.numpy()}


def unet() -> dict[str, np.ndarray | str]:
    import torch
    from diffusers import UNet2DConditionModel

    module = UNet2DConditionModel(
        sample_size=SIZE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT,
        attention_head_dim=HEADS,  # the number of heads, under its historical name
        **UNET,
    ).eval()
    shapes = redraw(module)
    x, tokens, there = map(torch.from_numpy, inputs())
    t = torch.from_numpy(C_NOISE)
    out = module(x, t, tokens, encoder_attention_mask=there).sample
    return {"shapes": shapes, "output": out.numpy()}


def pixart() -> dict[str, np.ndarray | str]:
    """PixArt-alpha (arXiv:2310.00426)."""
    import torch
    from diffusers import PixArtTransformer2DModel

    module = PixArtTransformer2DModel(
        **PIXART,
        in_channels=CHANNELS,
        out_channels=2 * CHANNELS,
        sample_size=SIZE,
        cross_attention_dim=WIDTH,
        caption_channels=TEXT,
        use_additional_conditions=False,
    ).eval()
    shapes = redraw(module, fixed=("pos_embed.pos_embed",))
    x, tokens, there = map(torch.from_numpy, inputs())
    t = torch.from_numpy(C_NOISE)
    out = module(x, tokens, t, {}, encoder_attention_mask=there).sample
    return {"shapes": shapes, "output": out.numpy()}


def _bias(there):
    """Return a mask as the term that is added to the logits of all queries."""
    return (1 - there[:, None]) * -1e4


if __name__ == "__main__":
    import torch

    torch.set_grad_enabled(False)
    parts = {"transformer": transformer(), "unet": unet(), "pixart": pixart()}
    arrays = {f"{part}/{k}": np.asarray(v) for part, case in parts.items() for k, v in case.items()}
    np.savez_compressed(sys.argv[1], **arrays)
