"""Write samples of published code with reduced networks, for test_converted.py; run by hand.

    pip install torch diffusers
    git clone https://github.com/facebookresearch/DiT      ed81ce2
    git clone https://github.com/willisma/SiT              947f95b
    python tests/parity/make_converted.py FOLDER tests/parity/converted.npz

FOLDER holds both checkouts. Made with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6.
`make_dit.py` contains the layers that DiT and SiT take from timm, and this file contains Euler's
method of torchdiffeq.

Tensors are drawn from their names, as in `make_unet.py` and `make_dit.py`, and not stored. The file
holds their names and shapes, configs, the noise, the outputs of the networks, and the samples.
"""

import contextlib
import importlib
import itertools
import json
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import make_dit
import make_unet
import numpy as np

STEPS, LABEL, WEIGHT = 10, np.array([3, 1]), 4.0
SMALL = {"sample_size": 8, "norm_num_groups": 8, "block_out_channels": [32, 64]}
DDPM = {  # google/ddpm-cifar10-32, but small
    **SMALL,
    "attention_head_dim": None,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": 1,
    "norm_eps": 1e-6,
}
MODERN = {  # diffusers' own defaults
    **SMALL,
    "attention_head_dim": 8,
    "attn_norm_num_groups": 8,
    "down_block_types": ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"],
    "layers_per_block": 1,
    "num_class_embeds": 5,
    "resnet_time_scale_shift": "scale_shift",
}
SCHEDULES = {
    "ddpm": (DDPM, {}),
    "scaled": (DDPM, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    "clipped": (DDPM, {"clip_sample": True}),
    "v": (DDPM, {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}),
    "zero": (
        DDPM,
        {
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "rescale_betas_zero_snr": True,
        },
    ),
    "modern": (
        MODERN,
        {
            "prediction_type": "sample",
            "steps_offset": 1,
            "trained_betas": np.linspace(2e-3, 0.2, 100).round(6).tolist(),
            "num_train_timesteps": 100,
        },
    ),
}


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((2, channels, 8, 8), np.float32)


def diffusers(model_settings: dict, scheduler_settings: dict) -> dict:
    """A network and its scheduler as `save_pretrained` writes them, and samples by DDIM."""
    import torch
    from diffusers import DDIMScheduler, UNet2DModel

    model = UNet2DModel(**model_settings).eval()
    scheduler = DDIMScheduler(**{"clip_sample": False, **scheduler_settings})
    clips = scheduler.config["clip_sample"]
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.from_numpy(np.asarray(make_unet.drawn(name, tuple(tensor.shape)))))
    x = torch.from_numpy(noise(3))
    label = torch.from_numpy(LABEL) if model_settings.get("num_class_embeds") else None
    run = lambda x, t: model(x, t, label).sample
    made = {"output": run(x, torch.tensor(37)).numpy(), "noise": noise(3)}
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        x = scheduler.step(run(x, t), t, x, use_clipped_model_output=clips).prev_sample
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        scheduler.save_pretrained(folder)
        for name in ("config.json", "scheduler_config.json"):
            made[name] = Path(folder, name).read_text()
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    return made | {"samples": x.numpy(), "shapes": json.dumps(shapes)}


@contextlib.contextmanager
def checkout(folder: Path, **stubs: types.ModuleType):
    """Import modules of one checkout, and forget them afterwards."""
    own = ("models", "diffusion", "transport")
    kept = {k: v for k, v in sys.modules.items() if k.split(".")[0] not in own}
    with mock.patch.dict(sys.modules, {**kept, **make_dit.timm(), **stubs}, clear=True):
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))


def euler() -> types.ModuleType:
    """`odeint` of torchdiffeq for this method."""
    import torch

    def odeint(function, x, t, **_):
        made = [x]
        for now, then in itertools.pairwise(t):
            made.append(made[-1] + (then - now) * function(now, made[-1]))
        return torch.stack(made)

    module = types.ModuleType("torchdiffeq")
    module.__dict__["odeint"] = odeint
    return module


def transformer(folder: Path, kind: str) -> dict:
    """DiT or SiT: outputs, with guidance too, and samples of an ODE."""
    import torch

    with checkout(folder / kind, torchdiffeq=euler()):
        model = getattr(importlib.import_module("models"), kind)(**make_dit.SMALL).eval()
        shapes = make_dit.redraw(model, fixed=("pos_embed",))
        x, label = torch.from_numpy(noise(4)), torch.from_numpy(LABEL)
        t = torch.tensor([0.3, 0.8]) * (1000 if kind == "DiT" else 1)
        if kind == "DiT":
            t = t.round()
        null = torch.full((2,), make_dit.SMALL["num_classes"])
        twice = torch.cat([x, x]), torch.cat([t, t]), torch.cat([label, null])
        made = {
            "t": t.numpy(),
            "output": model(x, t, label).numpy(),
            "guided": model.forward_with_cfg(*twice, WEIGHT)[:2].numpy(),
            "positions": model.pos_embed.numpy(),
        }
        if kind == "DiT":
            diffusion = importlib.import_module("diffusion").create_diffusion(str(STEPS))
            settings = {"clip_denoised": False, "model_kwargs": {"y": label}, "device": "cpu"}
            samples = diffusion.ddim_sample_loop(model.forward, x.shape, x, **settings)
        else:
            transport = importlib.import_module("transport")
            sampler = transport.Sampler(transport.create_transport())
            run = sampler.sample_ode(sampling_method="euler", num_steps=STEPS + 1)
            samples = run(x, model.forward, y=label)[-1]
    return made | {"shapes": shapes, "noise": noise(4), "samples": samples.numpy()}


if __name__ == "__main__":
    import torch

    torch.set_grad_enabled(False)
    parts = {name: diffusers(*settings) for name, settings in SCHEDULES.items()}
    parts |= {kind.lower(): transformer(Path(sys.argv[1]), kind) for kind in ("DiT", "SiT")}
    arrays = {f"{part}/{k}": np.asarray(v) for part, made in parts.items() for k, v in made.items()}
    np.savez_compressed(sys.argv[2], **arrays)
