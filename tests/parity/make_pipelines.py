"""Write what diffusers' pipelines from text to images make, for test_pipelines.py; run by hand.

    pip install torch diffusers transformers
    python tests/parity/make_pipelines.py tests/parity/pipelines.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1, transformers 5.24.0 and numpy 2.4.6.

Small pipelines of the form of Stable Diffusion 1.5, 2.1, XL, 3 (also without T5) and 3.5, PixArt,
and Flux.1, with injected noise. The file holds no weights: `drawn` of `make_dit.py` draws each
tensor from its name. It holds configs, names and shapes, and for each pipeline the last latents and
the images of PROMPTS, guided away from no negative prompt and from a stated one, of some also in
another size. Flux.1 dev has its weight of guidance as an input and no negative prompt; schnell is
guided away from the stated one alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from make_dit import drawn, redraw

SIDE, STEPS, WEIGHT = 8, 4, 3.0
PROMPTS, NEGATIVE = ["red apple, noto style", "zebra quartz"], "cats"
TOKENIZERS = Path(__file__).parents[1] / "encoders" / "tokenizers"
WORDS = 523
"""Of the small tokenizers; a test compares."""
TEXT = {"vocab_size": WORDS, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 3}
TEXT |= {"num_attention_heads": 3, "max_position_embeddings": 16}
TEXT |= {"bos_token_id": WORDS - 2, "eos_token_id": WORDS - 1}
SECOND = TEXT | {"hidden_size": 16, "num_attention_heads": 2, "projection_dim": 10}
SECOND |= {"hidden_act": "gelu"}
VAE = {"block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 2 * SIDE}
VAE |= {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
CODED = VAE | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
CODED |= {"shift_factor": 0.0609, "scaling_factor": 1.5305}
CROSS = ["CrossAttnDownBlock2D", "DownBlock2D"]
UNET = {"sample_size": SIDE, "block_out_channels": (16, 32), "layers_per_block": 1}
UNET |= {"norm_num_groups": 4, "cross_attention_dim": 24, "attention_head_dim": 2}
UNET |= {"down_block_types": CROSS, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
XL = UNET | {"cross_attention_dim": 40, "use_linear_projection": True}
XL |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
XL |= {"projection_class_embeddings_input_dim": 10 + 6 * 256}
PIXART = {"sample_size": SIDE, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2}
PIXART |= {"cross_attention_dim": 16, "caption_channels": 24, "norm_num_groups": 4}
PIXART |= {"interpolation_scale": 2, "use_additional_conditions": False}
T5 = {"vocab_size": 64, "d_model": 24, "d_kv": 6, "d_ff": 36, "num_layers": 2, "num_heads": 3}
T5 |= {"feed_forward_proj": "gated-gelu"}
SD3 = {"sample_size": SIDE, "num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 8}
SD3 |= {"caption_projection_dim": 16, "joint_attention_dim": 48, "pooled_projection_dim": 22}
SD3 |= {"pos_embed_max_size": 6}
FLUX = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
FLUX |= {"joint_attention_dim": 24, "pooled_projection_dim": 24, "axes_dims_rope": (2, 4, 2)}
TIED = "encoder.embed_tokens.weight"
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LATENT |= {"steps_offset": 1}
FLOW = "FlowMatchEulerDiscreteScheduler"
DDIM = LATENT | {"clip_sample": False, "set_alpha_to_one": False}
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "sd15": ("StableDiffusionPipeline", UNET, "DDIMScheduler", DDIM),
    "sd21": (
        "StableDiffusionPipeline",
        UNET | {"use_linear_projection": True},
        "DPMSolverMultistepScheduler",
        LATENT | {"prediction_type": "v_prediction", "timestep_spacing": "linspace"},
    ),
    "sdxl": ("StableDiffusionXLPipeline", XL, "DDIMScheduler", DDIM),
    "pixart": ("PixArtSigmaPipeline", PIXART, "DPMSolverMultistepScheduler", {"beta_end": 0.02}),
    "sd3": ("StableDiffusion3Pipeline", SD3, FLOW, {"shift": 3.0}),
    "sd35": (
        "StableDiffusion3Pipeline",
        SD3 | {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
        FLOW,
        {"shift": 3.0},
    ),
    "sd3_clips": ("StableDiffusion3Pipeline", SD3, FLOW, {"shift": 3.0}),
    "flux_dev": (
        "FluxPipeline",
        FLUX | {"guidance_embeds": True},
        FLOW,
        {"shift": 3.0, "use_dynamic_shifting": True},
    ),
    "flux_schnell": ("FluxPipeline", FLUX, FLOW, {"shift": 1.0}),
}
SIZES = {
    "sd21": {"hidden_act": "gelu"},
    "sd3": {"projection_dim": 12},
    "sd35": {"projection_dim": 12},
    "sd3_clips": {"projection_dim": 12},
}
"""Settings of the text tower that differ from those of `TEXT`."""
FOLDERS = {
    "sdxl": {"tokenizer": "clip", "tokenizer_2": "merges"},
    "pixart": {"tokenizer": "t5"},
    "sd3": {"tokenizer": "clip", "tokenizer_2": "merges", "tokenizer_3": "t5"},
    "flux": {"tokenizer": "clip", "tokenizer_2": "t5"},
}
"""Folders of tokenizers, by their part."""


def family(name: str) -> str:
    """The pipelines with equal parts."""
    return "sd3" if name == "sd35" else name.partition("_")[0]


WIDE = (SIDE, SIDE + 4)
"""Sides of latents of another size, of the pipelines SIZED."""
SIZED = ("sd15", "sdxl", "pixart", "sd3")


def noise(name: str, sides: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Latents that the pipelines start from, (B, C, H, W)."""
    channels = 16 if family(name) in ("sd3", "flux") else 4
    shape = (len(PROMPTS), channels, *sides)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def config(net: Any) -> dict[str, Any]:
    """The config of a network as its folder has it."""
    if hasattr(net.config, "to_diff_dict"):
        return json.loads(net.config.to_json_string())
    plain = {k: v for k, v in net.config.items() if not k.startswith("_")}
    return {"_class_name": type(net).__name__, **plain}


def parts(name: str) -> tuple[Any, dict[str, Any]]:
    """The pipeline of a case, and what its redrawn parts are, by folder."""
    import diffusers
    import torch
    import transformers

    kind, unet, scheduler, settings = CASES[name]
    of, tower = family(name), transformers.CLIPTextConfig(**TEXT, **SIZES.get(name, {}))
    vae = CODED if of in ("sd3", "flux") else VAE
    nets: dict[str, Any] = {"vae": diffusers.AutoencoderKL(**vae)}
    classes = {
        "pixart": "PixArtTransformer2DModel",
        "sd3": "SD3Transformer2DModel",
        "flux": "FluxTransformer2DModel",
    }
    part = "transformer" if of in classes else "unet"
    nets[part] = getattr(diffusers, classes.get(of, "UNet2DConditionModel"))(**unet)
    towers = {"sd3": transformers.CLIPTextModelWithProjection}
    if of != "pixart":
        nets["text_encoder"] = towers.get(of, transformers.CLIPTextModel)(tower)
    if of in ("sdxl", "sd3"):
        second = transformers.CLIPTextConfig(**SECOND)
        nets["text_encoder_2"] = transformers.CLIPTextModelWithProjection(second)
    whose = {"pixart": "text_encoder", "sd3": "text_encoder_3", "flux": "text_encoder_2"}
    absent = ("text_encoder_3", "tokenizer_3") if name == "sd3_clips" else ()
    if t5 := None if absent else whose.get(of):
        wide = T5 | ({"d_model": 48} if of == "sd3" else {})
        nets[t5] = transformers.T5EncoderModel(transformers.T5Config(**wide))
    tokenizers = {
        k: v for k, v in FOLDERS.get(of, {"tokenizer": "clip"}).items() if k not in absent
    }
    fixed = ("pos_embed.pos_embed",) if of == "pixart" else ()
    shapes = {
        part: json.loads(redraw(net.eval(), prefix=f"{part}.", fixed=fixed))
        for part, net in nets.items()
    }
    configs = {part: config(net) for part, net in nets.items()}
    if t5:  # files hold the first name of this tensor alone
        shapes[t5].pop(TIED, None)
        words = drawn(f"{t5}.shared.weight", tuple(shapes[t5]["shared.weight"]))
        nets[t5].shared.weight.copy_(torch.from_numpy(words))
    kinds = {"t5": transformers.T5Tokenizer}
    made = {
        part: kinds.get(folder, transformers.CLIPTokenizer).from_pretrained(
            str(TOKENIZERS / folder)
        )
        for part, folder in tokenizers.items()
    }
    for tokenizer in made.values():
        tokenizer.model_max_length = TEXT["max_position_embeddings"]
    planned = getattr(diffusers, scheduler)(**settings)
    more: dict[str, Any] = dict.fromkeys(absent)
    if kind == "StableDiffusionPipeline":
        more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, kind)(**nets, **made, scheduler=planned, **more)
    pipeline.set_progress_bar_config(disable=True)
    index = {"_class_name": kind, "scheduler": ["diffusers", scheduler]}
    index |= {part: ["", type(net).__name__] for part, net in nets.items()}
    index |= {part: [None, None] for part in absent}
    index |= {part: ["transformers", type(tokenizer).__name__] for part, tokenizer in made.items()}
    about = {"index": index, "shapes": shapes, "configs": configs, "tokenizers": tokenizers}
    return pipeline, about | {"scheduler": {"_class_name": scheduler, **settings}}


def case(name: str) -> dict[str, Any]:
    import torch

    pipeline, about = parts(name)
    stored: dict[str, Any] = {"about": json.dumps(about)}
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": WEIGHT}
    latents = torch.from_numpy(noise(name))
    if name == "pixart":
        settings |= {"use_resolution_binning": False, "height": 2 * SIDE, "width": 2 * SIDE}
        settings |= {"clean_caption": False}
    if family(name) == "flux":
        settings |= {"height": 2 * SIDE, "width": 2 * SIDE}
        latents = pipeline._pack_latents(latents, *latents.shape)
    none = "" if name == "pixart" else None  # the defaults of the classes
    texts = (none,) if name == "flux_dev" else (none, [NEGATIVE] * len(PROMPTS))
    for negative in texts:
        if negative and name == "flux_schnell":
            settings["true_cfg_scale"] = WEIGHT
        for kind, what in {"latent": "latents", "np": "image"}.items():
            made = pipeline(
                PROMPTS, negative_prompt=negative, latents=latents, output_type=kind, **settings
            )
            images = made.images
            if family(name) == "flux" and kind == "latent":
                images = pipeline._unpack_latents(images, 2 * SIDE, 2 * SIDE, 2)
            place = "negative" if negative else "plain"
            stored[f"{place}/{what}"] = np.asarray(images)
    if name in SIZED:
        settings |= {"height": 2 * WIDE[0], "width": 2 * WIDE[1], "output_type": "latent"}
        wide = torch.from_numpy(noise(name, WIDE))
        made = pipeline(PROMPTS, negative_prompt=none, latents=wide, **settings)
        stored["sized/latents"] = np.asarray(made.images)
    return stored


def main() -> None:
    import torch

    with torch.no_grad():
        arrays = {f"{name}/{key}": value for name in CASES for key, value in case(name).items()}
    np.savez_compressed(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
