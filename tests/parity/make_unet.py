"""Write the outputs of published U-Nets, for test_published_unets.py; run by hand and committed.

    pip install -e .[torch] diffusers
    python tests/parity/make_unet.py FOLDER tests/parity/unet.npz

FOLDER holds checkouts of the original code:

    edm                 https://github.com/NVlabs/edm                     008a4e5
    edm2                https://github.com/NVlabs/edm2                    4bf8162
    guided-diffusion    https://github.com/openai/guided-diffusion        22e0df8
    score_sde_pytorch   https://github.com/yang-song/score_sde_pytorch    cb1f359

Made with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6.

Each network is small, and `drawn` draws each of its tensors from its name, so the weights need not
be stored. For each network the file holds a list of names and shapes, the inputs and the output,
all in the original layout (channels first). It also holds the numbers of parameters of the
published sizes.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SIZE, B, CLASSES, AUGMENT = 8, 2, 3, 2
LABEL = np.array([2, 0])


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of this name, of about the size it has in a trained network."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape, np.float32)
    if name.endswith(("freqs", "phases", "all_modules.0.W")):
        return 2 * values
    if len(shape) > 1:
        return values / np.float32(math.sqrt(math.prod(shape[1:])))
    return 0.3 * values + np.float32(name.endswith((".weight", "gain")))


def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((B, 3, SIZE, SIZE), np.float32)


def output(
    module: Any, c_noise: list[float], *rest: Any, **named: Any
) -> dict[str, np.ndarray | str]:
    """Names and shapes of its tensors, and what it says once they are drawn."""
    import torch

    tensors = dict(module.named_parameters())
    tensors |= {k: v for k, v in module.named_buffers() if k.endswith(("freqs", "phases"))}
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(np.asarray(drawn(name, tuple(tensor.shape)))))
        made = module.eval()(torch.from_numpy(images()), torch.tensor(c_noise), *rest, **named)
    made = getattr(made, "sample", made)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    return {
        "tensors": json.dumps(shapes),
        "c_noise": np.array(c_noise, np.float32),
        "output": made.numpy(),
    }


def count(module: Any) -> np.ndarray:
    return np.array(sum(p.numel() for p in module.parameters() if p.requires_grad))


def one_hot() -> Any:
    import torch

    return torch.eye(CLASSES)[LABEL]


def augment() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((B, AUGMENT), np.float32)


def low() -> np.ndarray:
    """The enlarged images beside those of a network that enlarges."""
    return np.random.default_rng(4).standard_normal((B, 3, SIZE, SIZE), np.float32)


def edm(networks: Any) -> dict[str, dict[str, Any]]:
    import torch

    given = [-1.2, 0.4]
    small = {"label_dim": CLASSES, "augment_dim": AUGMENT, "num_blocks": 1, "attn_resolutions": [4]}
    song = {**small, "model_channels": 16, "channel_mult": [1, 2]}
    ncsnpp = {"embedding_type": "fourier", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1]}
    told = {"augment_labels": torch.from_numpy(augment())}
    run = lambda kind, **settings: output(
        getattr(networks, kind)(SIZE, 3, 3, **settings), given, one_hot(), **told
    )
    return {
        "edm-ddpmpp": run("SongUNet", **song),
        "edm-ncsnpp": run(
            "SongUNet", **{**song, "channel_mult": [1, 2, 1]}, **ncsnpp, encoder_type="residual"
        ),
        "edm-skip": run("SongUNet", **song, **ncsnpp, encoder_type="skip", decoder_type="skip"),
        "edm-adm": run("DhariwalUNet", **small, model_channels=64, channel_mult=[1, 2]),
    }


def edm_counts(networks: Any) -> dict[str, Any]:
    cifar = {"model_channels": 128, "channel_mult": [2, 2, 2], "augment_dim": 9}
    ncsnpp = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
    return {
        "edm-ddpmpp-cifar10": count(networks.SongUNet(32, 3, 3, **cifar)),
        "edm-ddpmpp-cifar10-classes": count(networks.SongUNet(32, 3, 3, label_dim=10, **cifar)),
        "edm-ncsnpp-cifar10": count(
            networks.SongUNet(32, 3, 3, **cifar, **ncsnpp, resample_filter=[1, 3, 3, 1])
        ),
        "edm-adm-imagenet64": count(networks.DhariwalUNet(64, 3, 3, label_dim=1000)),
    }


def edm2(networks: Any) -> dict[str, dict[str, Any]]:
    settings = {"model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
    module = networks.UNet(SIZE, 4, CLASSES, **settings, attn_resolutions=[4], channels_per_head=8)
    import torch

    tensors = torch.from_numpy(images())
    four = torch.cat([tensors, tensors[:, :1]], 1)
    forward = module.forward
    module.forward = lambda x, *rest: forward(four, *rest)
    return {"edm2": output(module, [-1.2, 0.4], one_hot())}


def edm2_counts(networks: Any) -> dict[str, Any]:
    widths = {"xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
    return {
        f"edm2-{name}": count(networks.UNet(64, 4, 1000, model_channels=width))
        for name, width in widths.items()
    }


def score_config(**changed: Any) -> SimpleNamespace:
    model = {
        "nf": 16,
        "ch_mult": (1, 2),
        "num_res_blocks": 1,
        "attn_resolutions": (4,),
        "dropout": 0.1,
        "resamp_with_conv": True,
        "conditional": True,
        "nonlinearity": "swish",
        "normalization": "GroupNorm",
        "scale_by_sigma": False,
        "sigma_min": 0.01,
        "sigma_max": 50.0,
        "num_scales": 1000,
        "fir": False,
        "fir_kernel": [1, 3, 3, 1],
        "skip_rescale": True,
        "resblock_type": "biggan",
        "progressive": "none",
        "progressive_input": "none",
        "progressive_combine": "sum",
        "embedding_type": "positional",
        "init_scale": 0.0,
        "fourier_scale": 16,
        **changed,
    }
    return SimpleNamespace(
        model=SimpleNamespace(**model),
        data=SimpleNamespace(image_size=SIZE, num_channels=3, centered=True),
        training=SimpleNamespace(continuous=True),
    )


SCORE_NCSNPP = {"fir": True, "embedding_type": "fourier"}


def score_sde(ddpm: Any, ncsnpp: Any) -> dict[str, dict[str, Any]]:
    residual = score_config(**SCORE_NCSNPP, progressive_input="residual", ch_mult=(1, 2, 1))
    skip = score_config(**SCORE_NCSNPP, progressive_input="input_skip", progressive="output_skip")
    return {
        # Its norms have 32 groups whatever the width.
        "score-ddpm": output(ddpm.DDPM(score_config(nf=128, ch_mult=(1, 1))), [3.0, 120.0]),
        "score-ddpmpp": output(ncsnpp.NCSNpp(score_config()), [3.0, 120.0]),
        "score-ncsnpp": output(ncsnpp.NCSNpp(residual), [0.3, 1.5]),
        "score-skip": output(ncsnpp.NCSNpp(skip), [0.3, 1.5]),
    }


def score_counts(ddpm: Any, ncsnpp: Any) -> dict[str, Any]:
    cifar = {"nf": 128, "ch_mult": (1, 2, 2, 2), "attn_resolutions": (16,)}

    def config(blocks: int, **changed: Any) -> SimpleNamespace:
        made = score_config(**cifar, num_res_blocks=blocks, **changed)
        made.data.image_size = 32
        return made

    return {
        "score-ddpm-cifar10": count(ddpm.DDPM(config(2))),
        "score-ddpmpp-cifar10": count(ncsnpp.NCSNpp(config(4))),
        "score-ncsnpp-cifar10": count(
            ncsnpp.NCSNpp(config(4, **SCORE_NCSNPP, progressive_input="residual"))
        ),
    }


def guided(unet: Any) -> dict[str, dict[str, Any]]:
    import torch

    # Its norms have 32 groups whatever the width.
    small = {"model_channels": 128, "num_res_blocks": 1, "channel_mult": (1, 1)}
    make = lambda **changed: unet.UNetModel(
        SIZE, 3, out_channels=6, attention_resolutions=(2,), **small, **changed
    )
    adm = make(
        num_classes=CLASSES, num_head_channels=64, use_scale_shift_norm=True, resblock_updown=True
    )
    return {
        "guided-adm": output(adm, [3.0, 120.0], y=torch.from_numpy(LABEL)),
        "guided-conv": output(make(num_heads=4, use_new_attention_order=True), [3.0, 120.0]),
    }


def guided_counts(unet: Any) -> dict[str, Any]:
    adm = lambda size, width, mult, blocks: unet.UNetModel(
        size,
        3,
        width,
        6,
        blocks,
        attention_resolutions=(size // 32, size // 16, size // 8),
        channel_mult=mult,
        num_classes=1000,
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    return {
        "adm-imagenet64": count(adm(64, 192, (1, 2, 3, 4), 3)),
        "adm-imagenet128": count(adm(128, 256, (1, 1, 2, 3, 4), 2)),
        "adm-imagenet256": count(adm(256, 256, (1, 1, 2, 2, 4, 4), 2)),
    }


def diffusers_config(widths: tuple[int, ...], blocks: int, attends: int) -> dict[str, Any]:
    """Return the config of `google/ddpm-cifar10-32`. attends: the level with attention."""
    kinds = ["Attn" if level == attends else "" for level in range(len(widths))]
    return {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": widths,
        "layers_per_block": blocks,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in kinds[::-1]],
        "attention_head_dim": None,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "mid_block_scale_factor": 1,
    }


def diffusers(library: Any) -> dict[str, dict[str, Any]]:
    import torch

    config = diffusers_config((128, 128), 1, 1)
    enlarges = library.UNet2DModel(sample_size=SIZE, **config | {"in_channels": 6})
    forward = enlarges.forward
    enlarges.forward = lambda x, t: forward(torch.cat([x, torch.from_numpy(low())], 1), t)
    return {
        "diffusers-ddpm": output(library.UNet2DModel(sample_size=SIZE, **config), [3.0, 120.0]),
        "diffusers-upsampler": output(enlarges, [3.0, 120.0]),
    }


def diffusers_counts(library: Any) -> dict[str, Any]:
    config = diffusers_config((128, 256, 256, 256), 2, 1)
    return {"diffusers-ddpm-cifar10": count(library.UNet2DModel(sample_size=32, **config))}


FAMILIES: tuple[tuple[str, tuple[str, ...], Callable[..., Any], Callable[..., Any]], ...] = (
    ("edm", ("training.networks",), edm, edm_counts),
    ("edm2", ("training.networks_edm2",), edm2, edm2_counts),
    ("score_sde_pytorch", ("models.ddpm", "models.ncsnpp"), score_sde, score_counts),
    ("guided-diffusion", ("guided_diffusion.unet",), guided, guided_counts),
    ("", ("diffusers",), diffusers, diffusers_counts),
)


def main(folder: str, path: str) -> None:
    import torch
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda *_, **__: None  # score_sde's CUDA code
    cases: dict[str, Mapping[str, Any]] = {}
    counts: dict[str, Any] = {}
    for place, names, small, full in FAMILIES:
        before = set(sys.modules)
        sys.path.insert(0, str(Path(folder, place)))
        modules = [importlib.import_module(name) for name in names]
        cases |= small(*modules)
        # score_sde's code initialises in place, which needs real tensors.
        with torch.device("cpu" if place.startswith("score") else "meta"):
            counts |= full(*modules)
        sys.path.pop(0)
        if place:  # edm and edm2 have packages of the same name
            for name in set(sys.modules) - before:
                if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]
    arrays = {f"{name}/{k}": np.asarray(v) for name, case in cases.items() for k, v in case.items()}
    for name, value in arrays.items():
        if name.endswith("output") and not np.isfinite(value).all():
            raise ValueError(f"{name}: not finite")
    np.savez_compressed(path, **arrays, **{f"count/{k}": v for k, v in counts.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
