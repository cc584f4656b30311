"""Write what diffusers' pipelines from text to images make, for test_pipelines.py; run by hand.

    pip install torch diffusers transformers
    python tests/parity/make_pipelines.py tests/parity/pipelines.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1, transformers 5.24.0 and numpy 2.4.6.

Small pipelines of the form of Stable Diffusion 1.5, 2.1 and XL, with injected noise. The file holds
no weights: `drawn` of `make_dit.py` draws each tensor from its name. It holds configs, names and
shapes, and for each pipeline the last latents and the images of PROMPTS, guided away from no
negative prompt and from a stated one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from make_dit import drawn, redraw

SIDE, CHANNELS, STEPS, WEIGHT = 8, 4, 4, 3.0
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
TIED = "encoder.embed_tokens.weight"
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LATENT |= {"steps_offset": 1}
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
}
SIZES = {"sd21": {"hidden_act": "gelu"}}
"""Settings of the text tower that differ from those of `TEXT`."""


def noise() -> np.ndarray:
    """Latents that the pipelines start from, (B, C, H, W)."""
    shape = (len(PROMPTS), CHANNELS, SIDE, SIDE)
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
    nets: dict[str, Any] = {"vae": diffusers.AutoencoderKL(**VAE)}
    if name == "pixart":
        nets["transformer"] = diffusers.PixArtTransformer2DModel(**unet)
        nets["text_encoder"] = transformers.T5EncoderModel(transformers.T5Config(**T5))
        tokenizers = {"tokenizer": "t5"}
    else:
        nets["unet"] = diffusers.UNet2DConditionModel(**unet)
        tower = transformers.CLIPTextConfig(**TEXT, **SIZES.get(name, {}))
        nets["text_encoder"] = transformers.CLIPTextModel(tower)
        tokenizers = {"tokenizer": "clip"}
    if name == "sdxl":
        second = transformers.CLIPTextConfig(**SECOND)
        nets["text_encoder_2"] = transformers.CLIPTextModelWithProjection(second)
        tokenizers["tokenizer_2"] = "merges"
    fixed = ("pos_embed.pos_embed",)
    shapes = {
        part: json.loads(redraw(net.eval(), prefix=f"{part}.", fixed=fixed))
        for part, net in nets.items()
    }
    configs = {part: config(net) for part, net in nets.items()}
    if shapes["text_encoder"].pop(TIED, None):  # files hold the first name of this tensor alone
        words = drawn("text_encoder.shared.weight", tuple(shapes["text_encoder"]["shared.weight"]))
        nets["text_encoder"].shared.weight.copy_(torch.from_numpy(words))
    kind_of = transformers.T5Tokenizer if name == "pixart" else transformers.CLIPTokenizer
    made = {
        part: kind_of.from_pretrained(str(TOKENIZERS / folder))
        for part, folder in tokenizers.items()
    }
    for tokenizer in made.values():
        tokenizer.model_max_length = TEXT["max_position_embeddings"]
    planned = getattr(diffusers, scheduler)(**settings)
    more: dict[str, Any] = {}
    if kind == "StableDiffusionPipeline":
        more = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, kind)(**nets, **made, scheduler=planned, **more)
    pipeline.set_progress_bar_config(disable=True)
    index = {"_class_name": kind, "scheduler": ["diffusers", scheduler]}
    index |= {part: ["", type(net).__name__] for part, net in nets.items()}
    index |= {part: ["transformers", kind_of.__name__] for part in made}
    about = {"index": index, "shapes": shapes, "configs": configs, "tokenizers": tokenizers}
    return pipeline, about | {"scheduler": {"_class_name": scheduler, **settings}}


def case(name: str) -> dict[str, Any]:
    import torch

    pipeline, about = parts(name)
    stored: dict[str, Any] = {"about": json.dumps(about)}
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": WEIGHT}
    if name == "pixart":
        settings |= {"use_resolution_binning": False, "height": 2 * SIDE, "width": 2 * SIDE}
        settings |= {"clean_caption": False}
    none = "" if name == "pixart" else None  # the defaults of the classes
    for negative in (none, [NEGATIVE] * len(PROMPTS)):
        for kind, what in {"latent": "latents", "np": "image"}.items():
            made = pipeline(
                PROMPTS,
                negative_prompt=negative,
                latents=torch.from_numpy(noise()),
                output_type=kind,
                **settings,
            )
            place = "negative" if negative else "plain"
            stored[f"{place}/{what}"] = np.asarray(made.images)
    return stored


def main() -> None:
    import torch

    with torch.no_grad():
        arrays = {f"{name}/{key}": value for name in CASES for key, value in case(name).items()}
    np.savez_compressed(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
