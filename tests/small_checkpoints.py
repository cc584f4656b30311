"""Small checkpoints in published formats, with random parameters."""

import numpy as np

rng = np.random.default_rng(0)
WIDTH, SIDE = 48, 4
HEADS = {"heads": 4}


def layer(name, *shape):
    """Return a layer or convolution of these sizes under its name."""
    return {
        f"{name}.weight": rng.normal(size=shape).astype(np.float32),
        f"{name}.bias": rng.normal(size=shape[0]).astype(np.float32),
    }


def positions(width, side):
    """Return sines and cosines of rows and columns (1, side^2, width), by DiT's formula."""
    omega = 10000 ** (-np.arange(width // 4) / (width / 4))
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    y, x = (a.reshape(-1, 1) * omega for a in (rows, columns))
    return np.hstack([np.sin(x), np.cos(x), np.sin(y), np.cos(y)])[None].astype(np.float32)


def dit(classes=10, w=WIDTH, p=2, c=4):
    """Return the tensors of a DiT with one block."""
    made = {"pos_embed": positions(w, SIDE)}
    made["y_embedder.embedding_table.weight"] = rng.normal(size=(classes + 1, w)).astype("f4")
    made |= layer("x_embedder.proj", w, c, p, p)
    made |= layer("t_embedder.mlp.0", w, 256) | layer("t_embedder.mlp.2", w, w)
    block = {"attn.qkv": (3 * w, w), "attn.proj": (w, w), "mlp.fc1": (4 * w, w)}
    block |= {"mlp.fc2": (w, 4 * w), "adaLN_modulation.1": (6 * w, w)}
    for name, shape in block.items():
        made |= layer(f"blocks.0.{name}", *shape)
    made |= layer("final_layer.linear", p * p * c * 2, w)
    return made | layer("final_layer.adaLN_modulation.1", 2 * w, w)


def block(name, given, width):
    """Return a residual block of guided-diffusion."""
    made = layer(f"{name}.in_layers.0", given) | layer(f"{name}.out_layers.0", width)
    made |= layer(f"{name}.in_layers.2", width, given, 3, 3)
    made |= layer(f"{name}.emb_layers.1", 2 * width, 4 * width)
    made |= layer(f"{name}.out_layers.3", width, width, 3, 3)
    return made | (layer(f"{name}.skip_connection", width, given, 1, 1) if given != width else {})


def classifier(w=32):
    """Return a classifier of guided-diffusion, which is the first half of its network."""
    made = layer("time_embed.0", 4 * w, w) | layer("time_embed.2", 4 * w, 4 * w)
    made |= layer("input_blocks.0.0", w, 3, 3, 3) | block("input_blocks.1.0", w, w)
    made |= block("middle_block.0", w, w) | block("middle_block.2", w, w)
    return made | layer("out.0", w) | layer("out.2.c_proj", 10, w, 1)


def guided(w=32):
    """Return the whole network of guided-diffusion, on one level."""
    made = {k: v for k, v in classifier(w).items() if not k.startswith("out.")}
    made |= layer("middle_block.1.norm", w) | layer("middle_block.1.qkv", 3 * w, w, 1)
    made |= layer("middle_block.1.proj_out", w, w, 1)
    for i in range(2):
        made |= block(f"output_blocks.{i}.0", 2 * w, w)
    return made | layer("out.0", w) | layer("out.2", 3, w, 3, 3)


GUIDED = {"schedule": "linear", "steps": 1000, "heads": 4, "size": 8}
UNET = {  # a UNet2DModel of one level
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "block_out_channels": [32],
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def resnet(name, given, width):
    """Return a residual block of diffusers."""
    made = layer(f"{name}.norm1", given) | layer(f"{name}.norm2", width)
    made |= layer(f"{name}.conv1", width, given, 3, 3) | layer(f"{name}.conv2", width, width, 3, 3)
    made |= layer(f"{name}.time_emb_proj", width, 4 * width)
    return made | (layer(f"{name}.conv_shortcut", width, given, 1, 1) if given != width else {})


def unet(w=32):
    """Return the tensors of a U-Net of diffusers."""
    made = layer("time_embedding.linear_1", 4 * w, w) | layer("conv_in", w, 3, 3, 3)
    made |= layer("time_embedding.linear_2", 4 * w, 4 * w)
    made |= resnet("down_blocks.0.resnets.0", w, w)
    made |= resnet("mid_block.resnets.0", w, w) | resnet("mid_block.resnets.1", w, w)
    made |= layer("mid_block.attentions.0.group_norm", w)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        made |= layer(f"mid_block.attentions.0.{name}", w, w)
    for i in range(2):
        made |= resnet(f"up_blocks.0.resnets.{i}", 2 * w, w)
    return made | layer("conv_norm_out", w) | layer("conv_out", 3, w, 3, 3)
