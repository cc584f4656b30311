"""Folders of diffusers: a U-Net with its scheduler, and autoencoders, written from our networks.

These are the inverses of the readers in `diffusers`, `schedulers` and `autoencoder`. What a class
of diffusers lacks is refused by the name of the setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.arrays import Params
from diffjax.files import write_text
from diffjax.io.reading import write
from diffjax.io.trees import flat
from diffjax.nets.layers import group_count
from diffjax.published import diffusers
from diffjax.published.autoencoder import kl_table
from diffjax.published.dit import null_first
from diffjax.published.written import written
from diffjax.sde import SDE

VERSION = "0.42.1"
"""The version of diffusers with which folders were compared."""
MODEL = "diffusion_pytorch_model.safetensors"
PLAIN: dict[str, Any] = {
    "patch": 1,
    "last_attends": False,
    "early_conditions": False,
    "kernel": (1, 1),
    "input_pyramid": "none",
    "output_pyramid": "none",
    "transformer": (),
    "rescale": False,
}
"""Settings of our U-Net for which `UNet2DModel` has one value."""
OTHERS = {
    "dit": "DiTTransformer2DModel takes other frequencies of the time than DiT (their i / 127 is "
    "i / 128 in arXiv:2212.09748)"
}
"""Why networks are refused that diffusers seems to have."""
FEATURES = {ours: theirs for theirs, ours in diffusers.FEATURES.items()}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
KNOWN = {"ddpm_linear": "linear", "ddpm_scaled_linear": "scaled_linear"}
COSINE = {"s": 0.008, "most": 0.999}
PADDINGS = {"conv": 0, "centred_conv": 1}
LABELS = "Embedding_0/label/embedding"
Files = dict[str, tuple[dict[str, Any], dict[str, np.ndarray] | None]]
"""By path: the fields of a JSON file, and the tensors of the model beside it, or None."""


def pipeline(
    config: Mapping[str, Any], sde: SDE, shape: tuple[int, ...], params: Params, classes: int = 0
) -> Files:
    """Return the folder of a `DDIMPipeline` with a `UNet2DModel`.

    config: with all defaults. shape: of an item (H, W, C). params: those of the network. classes:
    the number of labels, 0 without any; where the network has learned one for missing labels, it is
    the last of theirs. Raises ValueError for settings that the classes lack.
    """
    model, tensors = unet(config["network"], shape, params, classes)
    parts = {"scheduler": "DDIMScheduler", "unet": "UNet2DModel"}
    index = {"_class_name": "DDIMPipeline", "_diffusers_version": VERSION}
    index |= {part: ["diffusers", name] for part, name in parts.items()}
    return {
        "model_index.json": (index, None),
        "unet/config.json": (model, tensors),
        "scheduler/scheduler_config.json": (scheduler(config, sde), None),
    }


def unet(
    network: Mapping[str, Any], shape: tuple[int, ...], params: Params, classes: int = 0
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the config and the tensors of a `UNet2DModel`; arguments as for `pipeline`."""
    if network["name"] != "unet":
        why = OTHERS.get(network["name"], "diffusers has no such network")
        raise ValueError(f"{_shown(network, 'name')}: {why}; allowed: unet, autoencoder")
    lists = ("kernel", "transformer", "multipliers", "attention")
    network = {**network, **{name: tuple(network[name]) for name in lists}}
    for name, value in PLAIN.items():
        if network[name] != value:
            raise ValueError(f"{_shown(network, name)}: UNet2DModel has {value!r} alone")
    for name, known in (("embedding", FEATURES), ("resample", PADDINGS)):
        if network[name] not in known:
            raise ValueError(f"{_shown(network, name)}: UNet2DModel knows {', '.join(known)}")
    if len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(f"items of shape {shape}: UNet2DModel takes square images")
    if names := [name for name in network["conditions"] if name != "label"]:
        raise ValueError(f"config.network.conditions.{names[0]}: UNet2DModel takes labels alone")
    groups = _groups(network, params)
    widths = [m * network["channels"] for m in network["multipliers"]]
    attends = [shape[0] >> level in network["attention"] for level in range(len(widths))]
    turned, shift = FEATURES[network["embedding"]]
    config = {
        "_class_name": "UNet2DModel",
        "_diffusers_version": VERSION,
        "sample_size": shape[0],
        "in_channels": shape[2],
        "out_channels": shape[2] * (1 + network["learn_variance"]),
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "flip_sin_to_cos": turned,
        "freq_shift": shift,
        "down_block_types": [("Attn" if a else "") + "DownBlock2D" for a in attends],
        "up_block_types": [("Attn" if a else "") + "UpBlock2D" for a in attends[::-1]],
        "block_out_channels": widths,
        "layers_per_block": network["blocks"],
        "downsample_padding": PADDINGS[network["resample"]],
        "downsample_type": "conv",
        "upsample_type": "conv",
        "dropout": network["dropout"],
        "act_fn": "silu",
        "attention_head_dim": _head(network, widths, attends),
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups if network["scale_shift"] else None,
        "norm_eps": network["epsilon"],
        "resnet_time_scale_shift": "scale_shift" if network["scale_shift"] else "default",
        "add_attention": True,
        "mid_block_type": "UNetMidBlock2D",
        "mid_block_scale_factor": 1,
        "num_class_embeds": classes or None,
    }
    rows = diffusers.table({**network, "classes": classes}, shape[0])
    if classes and np.any(np.asarray(flat(params)[LABELS])[0]):  # a learned null: their last class
        rows[LABELS] = (null_first, rows[LABELS][1])
        config["num_class_embeds"] = classes + 1
    return config, written(rows, params)


def _shown(network: Mapping[str, Any], name: str) -> str:
    return f"config.network.{name}={network[name]!r}"


def _groups(network: Mapping[str, Any], params: Params) -> int:
    """Return the number of groups of all norms; raise ValueError where they differ."""
    norms = {a.shape[0] for name, a in flat(params).items() if name.endswith("GroupNorm_0/scale")}
    groups = {group_count(n, network["groups"]) for n in norms}
    if len(groups) > 1:
        raise ValueError(
            f"{_shown(network, 'groups')}: norms of {sorted(norms)} channels have "
            f"{sorted(groups)} groups; UNet2DModel has one number, such as {min(groups)}"
        )
    return groups.pop()


def _head(network: Mapping[str, Any], widths: list[int], attends: list[bool]) -> int | None:
    """Return the channels per head; raise ValueError where they differ between levels."""
    if network["head_channels"]:
        return network["head_channels"]
    if network["heads"] == 1:
        return None
    inside = {w for w, attend in zip(widths, attends, strict=True) if attend} | {widths[-1]}
    if len(inside) > 1:
        raise ValueError(
            f"{_shown(network, 'heads')}: widths {sorted(inside)} have attention; UNet2DModel has "
            f"one number of channels per head: set head_channels"
        )
    return inside.pop() // network["heads"]


def scheduler(config: Mapping[str, Any], sde: SDE) -> dict[str, Any]:
    """Return the config of a `DDIMScheduler` for a process with a table of betas.

    Raises ValueError for another process, label of the noise level, or scaled input.
    """
    asked, schedule = config["parameterization"], config["sde"].get("schedule", {})
    steps, betas = getattr(sde.schedule, "steps", None), getattr(sde.schedule, "betas", None)
    if config["sde"]["name"] != "vp" or betas is None:
        place = f"config.sde.schedule.name={schedule.get('name')!r}"
        raise ValueError(f"{place}: DDIMScheduler has VP with tables of betas alone")
    if asked["name"] not in PREDICTIONS:
        known = ", ".join(PREDICTIONS)
        raise ValueError(f"config.parameterization.name={asked['name']!r}: known: {known}")
    if asked["c_noise"] != "index":
        raise ValueError(f"config.parameterization.c_noise={asked['c_noise']!r}: needs index")
    table: dict[str, Any] = {"trained_betas": [float(beta) for beta in betas]}
    if schedule["name"] in KNOWN:
        ends = {"beta_start": schedule["beta_min"], "beta_end": schedule["beta_max"]}
        table = {**ends, "beta_schedule": KNOWN[schedule["name"]]}
    elif schedule == {"name": "ddpm_cosine", "steps": steps, **COSINE}:
        table = {"beta_schedule": "squaredcos_cap_v2"}
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": VERSION,
        "num_train_timesteps": steps,
        **table,
        "prediction_type": PREDICTIONS[asked["name"]],
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
    }


def autoencoder(
    network: Mapping[str, Any], params: Params, rule: Mapping[str, Any] | None = None
) -> Files:
    """Return the folder of an `AutoencoderKL`.

    network: the settings of `nets.autoencoder`, all of them. rule: centre and scale of each channel
    of its latents, as `codec.json` has them, or None. Raises ValueError for another network.
    """
    if network["name"] != "autoencoder":
        raise ValueError(f"{_shown(network, 'name')}: AutoencoderKL needs autoencoder")
    widths = [m * network["channels"] for m in network["multipliers"]]
    attends = [level in network["attention_levels"] for level in range(len(widths))]
    kinds = lambda kind, order: [("Attn" if a else "") + kind for a in order]
    tensors = written(kl_table(network), params)
    norm = {"scaling_factor": 1.0}
    if rule:
        norm |= {"latents_mean": list(rule["centre"]), "latents_std": list(rule["scale"])}
        norm["scaling_factor"] = float(rule["std"])
    config = {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": VERSION,
        "in_channels": tensors["encoder.conv_in.weight"].shape[1],
        "out_channels": tensors["decoder.conv_out.weight"].shape[0],
        "down_block_types": kinds("DownEncoderBlock2D", attends),
        "up_block_types": kinds("UpDecoderBlock2D", attends[::-1]),
        "block_out_channels": widths,
        "layers_per_block": network["blocks"],
        "act_fn": "silu",
        "latent_channels": network["latent"],
        "norm_num_groups": network["groups"],
        "use_quant_conv": network["quantised"],
        "use_post_quant_conv": network["quantised"],
        "mid_block_add_attention": network["attention"],
        "force_upcast": True,
        **norm,
    }
    return {"config.json": (config, tensors)}


def save(folder: Path, files: Files) -> None:
    """Write the files of a folder."""
    for name, (fields, tensors) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(fields, indent=2) + "\n")
        if tensors is not None:
            write(path.parent / MODEL, tensors, {"format": "pt"})
