"""Write the outputs of published autoencoders, for test_autoencoders.py; run by hand.

    pip install torch diffusers
    git clone https://github.com/facebookresearch/DiT
    git -C DiT checkout ed81ce2229091fd4ecc9a223645f95cf379d582b
    PYTHONPATH=DiT python tests/parity/make_autoencoders.py tests/parity/autoencoders.npz

Made with torch 2.13.0 (CPU), diffusers 0.42.1 and numpy 2.4.6.

The file holds no weights: `drawn` of `make_features.py` draws each tensor from a generator seeded
by its name, and the test repeats that. It holds the configs, names and shapes of tensors, images,
latents, and what the classes of diffusers return for them, channels first. For one network it also
holds the names of CompVis, which diffusers' own converter maps back to its tensors, and the image
of latents that the code of DiT sampled. For the published sizes it holds names and shapes alone.
"""

import json
import sys
import zlib
from typing import Any
from unittest import mock

import make_dit
import numpy as np
from make_features import redraw

SIDE, B = 8, 2
DOWN, UP = ["DownEncoderBlock2D"] * 2, ["UpDecoderBlock2D"] * 2
SMALL: dict[str, Any] = {"block_out_channels": [32, 64], "down_block_types": DOWN}
SMALL |= {"up_block_types": UP, "norm_num_groups": 8}
PLAIN = {"use_quant_conv": False, "use_post_quant_conv": False}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sd": ("AutoencoderKL", SMALL),
    "vavae": (
        "AutoencoderKL",
        SMALL
        | PLAIN
        | {"latent_channels": 16, "mid_block_add_attention": False, "layers_per_block": 2}
        | {"down_block_types": [DOWN[0], "AttnDownEncoderBlock2D"]}
        | {"up_block_types": ["AttnUpDecoderBlock2D", UP[0]]}
        | {"latents_mean": [0.1] * 16, "latents_std": [2.0] * 16, "scaling_factor": None},
    ),
    "flux2": (
        "AutoencoderKLFlux2",
        {
            "block_out_channels": [16],
            "down_block_types": DOWN[:1],
            "up_block_types": UP[:1],
            "norm_num_groups": 8,
            "layers_per_block": 1,
            "latent_channels": 4,
        },
    ),
    "tiny": (
        "AutoencoderTiny",
        {
            "encoder_block_out_channels": [16] * 3,
            "decoder_block_out_channels": [16] * 3,
            "num_encoder_blocks": [1, 2, 1],
            "num_decoder_blocks": [2, 1, 1],
        },
    ),
}
F8 = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
F8 |= {"down_block_types": DOWN * 2, "up_block_types": UP * 2}
SIZES = {
    "sd-f8": ("AutoencoderKL", F8),
    "sd3-f8": ("AutoencoderKL", F8 | PLAIN | {"latent_channels": 16}),
    "taesd": ("AutoencoderTiny", {}),
}
"""Published sizes."""


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)


def compvis(name: str, levels: int) -> str:
    """Return the name in a single file of CompVis, in the words of its `Encoder` and `Decoder`."""
    words = name.split(".")
    if words[0] not in ("encoder", "decoder"):
        return name
    part, stage, *where = words
    if stage in ("down_blocks", "up_blocks"):
        n, kind, i, *leaf = where
        level = int(n) if stage == "down_blocks" else levels - 1 - int(n)
        short = stage.removesuffix("_blocks")
        inner = {"resnets": f"block.{i}", "downsamplers": "downsample", "upsamplers": "upsample"}
        leaf = ["nin_shortcut" if word == "conv_shortcut" else word for word in leaf]
        return ".".join([part, short, str(level), inner[kind], *leaf])
    if stage == "mid_block":
        kind, i, *leaf = where
        if kind == "resnets":
            return ".".join([part, "mid", f"block_{int(i) + 1}", *leaf])
        last = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
        return ".".join([part, "mid", "attn_1", last[leaf[0]], leaf[-1]])
    return ".".join([part, "norm_out" if stage == "conv_norm_out" else stage, *where])


def checked(names: list[str], tensors: dict[str, Any], config: Any) -> str:
    """Return the names as JSON, if diffusers' converter maps tensors with them to its own."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    single = {}
    for theirs, (name, tensor) in zip(names, tensors.items(), strict=True):
        square = ".attn_1." in theirs and tensor.ndim == 2
        single[theirs] = tensor[..., None, None] if square else tensor
        assert name
    back = convert_ldm_vae_checkpoint(single, config)
    assert back.keys() == tensors.keys(), back.keys() ^ tensors.keys()
    assert all((back[k] == tensors[k]).all() for k in tensors)
    return json.dumps(names)


def case(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    import diffusers
    import torch

    net = getattr(diffusers, kind)(**config).eval()
    stored: dict[str, Any] = {"shapes": redraw(net)}
    stored["config"] = json.dumps({"_class_name": kind, **config})
    # Not square, so that swapped axes show.
    x = torch.from_numpy(noise(f"{name}/x", (B, 3, SIDE, 2 * SIDE)))
    out = net.encode(x)
    if kind == "AutoencoderTiny":
        stored["mean"] = out.latents
    else:
        stored |= {"mean": out.latent_dist.mean, "std": out.latent_dist.std}
    z = torch.from_numpy(noise(f"{name}/z", tuple(stored["mean"].shape)))
    stored["image"] = net.decode(z).sample
    if name == "sd":
        tensors = net.state_dict()
        names = [compvis(k, len(config["block_out_channels"])) for k in tensors]
        stored["compvis"] = checked(names, tensors, config)
    if kind == "AutoencoderKLFlux2":
        stored |= folded(net, stored["mean"], z)
    return {k: v.numpy() if hasattr(v, "numpy") else v for k, v in stored.items()}


STEPS, SCALE, LABELS = 10, 0.18215, [0, 4]


def pipeline() -> dict[str, np.ndarray]:
    """Return latents that DiT's own code samples with DDIM, and their images by `AutoencoderKL`.

    The network is that of `make_dit.py`, the autoencoder that of the case `sd`.
    """
    import torch
    from diffusers import AutoencoderKL

    with mock.patch.dict(sys.modules, make_dit.timm()):
        from diffusion import create_diffusion
        from models import DiT
    net, vae = DiT(**make_dit.SMALL).eval(), AutoencoderKL(**SMALL).eval()
    make_dit.redraw(net, fixed=("pos_embed",))
    redraw(vae)
    z = torch.from_numpy(noise("pipeline/z", (B, 4, 8, 8)))
    latents = create_diffusion(f"ddim{STEPS}").ddim_sample_loop(
        net, z.shape, z, clip_denoised=False, model_kwargs={"y": torch.tensor(LABELS)}, device="cpu"
    )
    return {"latents": latents.numpy(), "image": vae.decode(latents / SCALE).sample.numpy()}


def folded(net: Any, mean: Any, z: Any) -> dict[str, Any]:
    """Return normalised latents, and the image of normalised latents, as Flux.2's pipeline has it.

    The arithmetic is that of `Flux2Pipeline`, which cannot be imported without transformers.
    """
    import torch

    b, c, h, w = mean.shape
    fold = lambda a: (
        a.view(b, c, h // 2, 2, w // 2, 2)
        .permute(0, 1, 3, 5, 2, 4)
        .reshape(b, 4 * c, h // 2, w // 2)
    )
    unfold = lambda a: (
        a.reshape(b, c, 2, 2, h // 2, w // 2).permute(0, 1, 4, 2, 5, 3).reshape(b, c, h, w)
    )
    centre = net.bn.running_mean.view(1, -1, 1, 1)
    deviation = torch.sqrt(net.bn.running_var.view(1, -1, 1, 1) + net.config.batch_norm_eps)
    image = net.decode(unfold(fold(z) * deviation + centre)).sample
    return {"normalised": (fold(mean) - centre) / deviation, "folded_image": image}


def size(kind: str, config: dict[str, Any]) -> str:
    """Return names and shapes of the tensors of a published size as JSON."""
    import diffusers
    import torch

    with torch.device("meta"):
        net = getattr(diffusers, kind)(**config)
    return json.dumps({k: list(v.shape) for k, v in net.state_dict().items()})


def main(path: str) -> None:
    import torch

    torch.set_grad_enabled(False)
    arrays = {
        f"{name}/{k}": np.asarray(v)
        for name, settings in CASES.items()
        for k, v in case(name, *settings).items()
    }
    arrays |= {f"pipeline/{k}": v for k, v in pipeline().items()}
    arrays |= {f"size/{name}": np.asarray(size(*settings)) for name, settings in SIZES.items()}
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{name}: not finite")
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
