"""Write the outputs of diffusers' U-Nets with controls, for test_control_parity.py; run by hand.

    pip install torch diffusers transformers
    python tests/parity/make_control.py tests/parity/control.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6.

Small U-Nets of the form of Stable Diffusion 1.5 and XL, on latents that are not square, alone and
with ControlNets, T2I-Adapters of three forms, and an IP-Adapter. `drawn` draws each tensor from its
name, so that the file holds configs, names and shapes, and outputs, but no weights. `names/...`
hold the names and shapes of the full sizes, made without weights.
"""

import json
import sys

import numpy as np
from make_dit import redraw

B, SIDES, CHANNELS, TOKENS, TEXT, CLIP = 2, (8, 12), 4, 3, 24, 10
C_NOISE = np.array([3.5, 250.0], np.float32)
SD = {
    "sample_size": SIDES[0],
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT,
    "attention_head_dim": 2,
}
XL = {
    "sample_size": SIDES[0],
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT,
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 10 + 6 * 256,
}
UP = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
BASES = {"sd": SD, "xl": XL}
HINT = (4, 4, 6, 6)
ADAPTERS = {
    "full": {"channels": (16, 32, 32), "num_res_blocks": 2, "adapter_type": "full_adapter"},
    "light": {"channels": (16, 32), "num_res_blocks": 3, "adapter_type": "light_adapter"},
    "full_xl": {
        "channels": (16, 32, 64, 64),
        "num_res_blocks": 1,
        "downscale_factor": 16,
        "adapter_type": "full_adapter_xl",
    },
}
SCALE = 0.7


def inputs() -> dict[str, np.ndarray]:
    """x (B, C, H, W), tokens, pooled text and sizes, pictures in [0, 1], embeddings of images."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return {
        "x": draw(B, CHANNELS, *SIDES),
        "tokens": draw(B, TOKENS, TEXT),
        "pooled": draw(B, 10),
        "sizes": np.float32([[8, 12, 0, 1, 8, 12], [16, 24, 2, 0, 8, 12]]),
        "picture": rng.random((B, 3, *(8 * side for side in SIDES))).astype(np.float32),
        "image": draw(B, CLIP),
    }


def unet(settings):
    from diffusers import UNet2DConditionModel

    up = tuple(UP[kind] for kind in settings["down_block_types"][::-1])
    return UNet2DConditionModel(**settings, up_block_types=up).eval()


def added(settings, given):
    """Return the conditions that only XL has."""
    if "addition_embed_type" not in settings:
        return {}
    conditions = {"text_embeds": given["pooled"], "time_ids": given["sizes"]}
    return {"added_cond_kwargs": conditions}


def case(module, shapes, output):
    config = {k: v for k, v in module.config.items() if not k.startswith("_name")}
    return {"config": json.dumps(config), "shapes": shapes, "output": output.numpy()}


def bases(given, t):
    """The U-Nets alone, and each with a ControlNet."""
    from diffusers import ControlNetModel

    cases = {}
    for name, settings in BASES.items():
        base, more = unet(settings), added(settings, given)
        shapes = redraw(base)
        plain = base(given["x"], t, given["tokens"], **more).sample
        cases[name] = case(base, shapes, plain)
        only = {k: v for k, v in settings.items() if k != "sample_size"}
        control = ControlNetModel(**only, conditioning_embedding_out_channels=HINT).eval()
        shapes = redraw(control, prefix="control.")
        down, middle = control(
            given["x"],
            t,
            given["tokens"],
            given["picture"],
            conditioning_scale=SCALE,
            return_dict=False,
            **more,
        )
        joined = base(
            given["x"],
            t,
            given["tokens"],
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            **more,
        ).sample
        cases[f"{name}_control"] = case(control, shapes, joined)
    return cases


def adapters(given, t):
    from diffusers import T2IAdapter

    cases = {}
    for name, settings in ADAPTERS.items():
        base_settings = XL if name == "full_xl" else SD
        base, module = unet(base_settings), T2IAdapter(**settings).eval()
        redraw(base)
        shapes = redraw(module, prefix=f"{name}.")
        features = [SCALE * feature for feature in module(given["picture"])]
        output = base(
            given["x"],
            t,
            given["tokens"],
            down_intrablock_additional_residuals=features,
            **added(base_settings, given),
        ).sample
        cases[name] = case(module, shapes, output)
    return cases


def image_prompt(given, t):
    """An IP-Adapter in the layout of `ip-adapter_sd15`, loaded by diffusers."""
    import torch
    from make_dit import drawn

    base = unet(SD)
    redraw(base)
    names = [name for name in base.attn_processors if "attn2" in name]
    widths = [
        base.get_submodule(name.removesuffix(".processor")).to_k.out_features for name in names
    ]
    shapes = {
        "image_proj.proj.weight": (4 * TEXT, CLIP),
        "image_proj.proj.bias": (4 * TEXT,),
        "image_proj.norm.weight": (TEXT,),
        "image_proj.norm.bias": (TEXT,),
    }
    for i, width in enumerate(widths):
        for each in "kv":
            shapes[f"ip_adapter.{2 * i + 1}.to_{each}_ip.weight"] = (width, TEXT)
    tensors = {k: torch.from_numpy(drawn(k, shape)) for k, shape in shapes.items()}
    parts = {
        part: {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(part)}
        for part in ("image_proj", "ip_adapter")
    }
    base._load_ip_adapter_weights([parts])
    for processor in base.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [SCALE]
    image = [given["image"][:, None]]
    output = base(given["x"], t, given["tokens"], added_cond_kwargs={"image_embeds": image}).sample
    return {"image_prompt": {"shapes": json.dumps(shapes), "output": output.numpy()}}


FULL = {
    "sd15": {"cross_attention_dim": 768, "sample_size": 64},
    "sd21": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "sample_size": 96,
    },
    "sdxl": {
        **XL,
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "norm_num_groups": 32,
        "cross_attention_dim": 2048,
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "projection_class_embeddings_input_dim": 2816,
    },
}


def names():
    """Return configs, names and shapes of the full sizes, without weights."""
    import torch
    from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel

    made = {}
    shaped = lambda module: {k: list(v.shape) for k, v in module.state_dict().items()}
    with torch.device("meta"):
        for name, settings in FULL.items():
            kinds = settings.get("down_block_types")
            up = {"up_block_types": tuple(UP[k] for k in kinds[::-1])} if kinds else {}
            modules = {name: UNet2DConditionModel(**settings, **up)}
            only = {k: v for k, v in settings.items() if k != "sample_size"}
            modules[f"{name}_control"] = ControlNetModel(**only)
            for key, module in modules.items():
                made[f"{key}/config"] = json.dumps({**module.config}, default=str)
                made[f"{key}/shapes"] = json.dumps(shaped(module))
        full = {"channels": (320, 640, 1280, 1280)}
        for key, module in {
            "t2i_full": T2IAdapter(**full),
            "t2i_xl": T2IAdapter(**full, adapter_type="full_adapter_xl", downscale_factor=16),
            "t2i_light": T2IAdapter(
                channels=(320, 640, 1280), num_res_blocks=4, adapter_type="light_adapter"
            ),
        }.items():
            made[f"{key}/config"] = json.dumps({**module.config}, default=str)
            made[f"{key}/shapes"] = json.dumps(shaped(module))
    return made


if __name__ == "__main__":
    import torch

    torch.set_grad_enabled(False)
    given = {name: torch.from_numpy(value) for name, value in inputs().items()}
    t = torch.from_numpy(C_NOISE)
    parts = {**bases(given, t), **adapters(given, t), **image_prompt(given, t)}
    arrays = {f"{part}/{k}": np.asarray(v) for part, case in parts.items() for k, v in case.items()}
    arrays |= {f"names/{k}": np.asarray(v) for k, v in names().items()}
    np.savez_compressed(sys.argv[1], **arrays)
