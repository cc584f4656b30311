"""diffusers' `UNet2DModel` with the config of its scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.io.contents import Contents
from diffjax.nets.layers import group_count
from diffjax.published.family import Converted
from diffjax.published.tables import Table, conv, converted, layer, norm, side_by_side, with_null
from diffjax.published.walk import Step, head, walk

ONLY: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DModel",),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": ("UNetMidBlock2D",),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
    "add_attention": (True,),
}
"""Settings of the model that our U-Net has for some values only."""
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "downsample_padding": 1,
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "time_embedding_dim": None,
    "num_train_timesteps": None,
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
}
"""Of diffusers, for what a config leaves out."""
FEATURES = {(False, 1): "ddpm", (True, 0): "adm"}
"""Our kind of embedding for `flip_sin_to_cos` and `freq_shift`."""
BETAS = {"linear": "ddpm_linear", "scaled_linear": "ddpm_scaled_linear"}
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
SPACINGS = ("leading", "trailing", "linspace")
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "rescale_betas_zero_snr": False,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "set_alpha_to_one": True,
    "variance_type": "fixed_small",
}
"""What a scheduler's config leaves out, as in DDPMScheduler and DDIMScheduler."""


def recognises(contents: Contents) -> bool:
    return {"time_embedding.linear_1.weight", "conv_in.weight"} <= set(contents.tensors)


def convert(contents: Contents, steps: int = 50, kind: str = "") -> Converted:
    """A `UNet2DModel` and its scheduler; without one, DDPM's is assumed.

    steps: of DDIM, as the config will have it. kind: of the data, which the files do not say: image
    by default with 1 or 3 channels, else latent. Raises ValueError for settings that ours lacks.
    """
    given = dict(contents.settings)
    scheduler = given.pop("scheduler", None)
    network, shape = _network(given, contents.tensors)
    classes = given.get("num_class_embeds") or 0
    notes = () if scheduler else ("no scheduler_config.json: DDPM's betas, and eps, assumed",)
    sections, more = _process(scheduler or {}, steps)
    params = converted(
        _named(table({**network, "classes": classes}, shape[0]), contents.tensors), contents.tensors
    )
    config = {**sections, "network": network}
    kind = kind or ("image" if shape[-1] in (1, 3) else "latent")
    return Converted(config, shape, classes, params, (*notes, *more), kind)


def _network(given: dict[str, Any], tensors: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Settings of our `unet`, and the shape of images."""
    if unknown := [k for k in given if k[0] != "_" and k not in {*ONLY, *DEFAULTS}]:
        raise ValueError(f"config.json: {unknown[0]}={given[unknown[0]]!r} is not known here")
    for name, allowed in ONLY.items():
        value = given.get(name, DEFAULTS.get(name, allowed[0]))
        for one in value if isinstance(value, list | tuple) else (value,):
            if one not in allowed:
                known = ", ".join(map(repr, allowed))
                raise ValueError(f"config.json: {name}={one!r}; ours can only be {known}")
    have = {**DEFAULTS, **given}
    widths: list[int] = have["block_out_channels"]
    size: Any = have["sample_size"]
    attends = [kind.startswith("Attn") for kind in have["down_block_types"]]
    size = size[0] if isinstance(size, list) and len({*size}) == 1 else size
    features = FEATURES.get((bool(have["flip_sin_to_cos"]), have["freq_shift"]))
    two = have["out_channels"] == 2 * have["in_channels"]
    each, groups = have["attention_head_dim"], have["norm_num_groups"]
    norms = {len(tensors[k]) for k in tensors if "norm" in k and k.endswith(".weight")}
    fit = f"a divisor of {sorted(norms)} that leaves four channels in a group"
    for name, right, needs in (
        ("sample_size", isinstance(size, int), "one side, in pixels"),
        ("flip_sin_to_cos", features, "True with freq_shift=0, or False with freq_shift=1"),
        ("out_channels", two or have["out_channels"] == have["in_channels"], "as in_channels, x 2"),
        ("block_out_channels", all(w % widths[0] == 0 for w in widths), "multiples of the first"),
        ("up_block_types", _mirrored(have["up_block_types"], attends), "those of down, mirrored"),
        ("time_embedding_dim", have["time_embedding_dim"] in (None, 4 * widths[0]), "null"),
        ("norm_num_groups", all(group_count(n, groups) == groups for n in norms), fit),
        ("attn_norm_num_groups", have["attn_norm_num_groups"] in (None, groups), "null"),
    ):
        if not right:
            raise ValueError(f"config.json: {name}={have[name]!r}; needs {needs}")
    network = {
        "name": "unet",
        "channels": widths[0],
        "multipliers": [w // widths[0] for w in widths],
        "blocks": have["layers_per_block"],
        "attention": [size >> level for level, attend in enumerate(attends) if attend],
        "heads": 1,
        "head_channels": each or 0,
        "dropout": have["dropout"],
        "embedding": features,
        "resample": "centred_conv" if have["downsample_padding"] else "conv",
        "scale_shift": have["resnet_time_scale_shift"] == "scale_shift",
        "epsilon": have["norm_eps"],
        "groups": groups,
        "learn_variance": two,
    }
    return network, (size, size, have["in_channels"])


def _mirrored(up: Any, attends: list[bool]) -> bool:
    return [kind.startswith("Attn") for kind in up][::-1] == attends


def _process(given: dict[str, Any], steps: int) -> tuple[dict[str, Any], list[str]]:
    """sde, parameterization and sampling of a scheduler; what is done in another way."""
    have = {**SCHEDULER, **given}
    total, kind, spacing = (
        have[k] for k in ("num_train_timesteps", "prediction_type", "timestep_spacing")
    )
    for name, known in (("prediction_type", PREDICTIONS), ("timestep_spacing", SPACINGS)):
        if have[name] not in known:
            raise ValueError(
                f"scheduler_config.json: {name}={have[name]!r}; known: {', '.join(known)}"
            )
    schedule = _schedule(have, total)
    if have["rescale_betas_zero_snr"]:
        schedule = {"name": "zero_terminal", "schedule": schedule}
    grid = {"name": spacing, "total": total}
    if spacing == "leading" and have["steps_offset"]:
        grid["offset"] = have["steps_offset"]
    notes = []
    guidance = {}
    if have["thresholding"]:
        notes.append("its scheduler thresholds the predicted x0; see --threshold=dynamic")
    elif have["clip_sample"]:
        threshold = {"name": "static", "bound": float(have["clip_sample_range"])}
        guidance = {"guidance": {"weight": 1.0, "threshold": threshold}}
        notes.append("its DDIM clips x0 alone without use_clipped_model_output; here eps follows")
    if spacing == "linspace":
        notes.append("linspace: its DDIM steps by T // steps from each time, ours to the next time")
    if not have["set_alpha_to_one"]:
        notes.append("its last step ends at the first noise level; ours goes on to the data")
    sections = {
        "sde": {"name": "vp", "t_min": 1 / total, "schedule": schedule},
        "parameterization": {"name": PREDICTIONS[kind], "c_noise": "index", "scale_input": False},
        "sampling": {"sampler": {"name": "ddim"}, "grid": grid, "steps": steps} | guidance,
    }
    return sections, notes


def _schedule(have: dict[str, Any], total: int) -> dict[str, Any]:
    """The table of betas."""
    kind, betas = have["beta_schedule"], have["trained_betas"]
    if betas is not None:
        return {"name": "discrete", "betas": [float(b) for b in betas]}
    if kind in BETAS:
        ends = {"beta_min": have["beta_start"], "beta_max": have["beta_end"]}
        return {"name": BETAS[kind], "steps": total, **ends}
    if kind == "squaredcos_cap_v2":
        return {"name": "ddpm_cosine", "steps": total}
    known = ", ".join([*BETAS, "squaredcos_cap_v2"])
    raise ValueError(f"scheduler_config.json: beta_schedule={kind!r}; known: {known}")


OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Names of attention layers until 2023."""


def _named(table: Table, tensors: Mapping[str, Any]) -> Table:
    """The table with the older names where these tensors have them."""
    if not any(".query." in name for name in tensors):
        return table

    def old(name: str) -> str:
        for new, before in OLD.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    return {ours: (layout, *map(old, names)) for ours, (layout, *names) in table.items()}


def table(settings: Mapping[str, Any], size: int) -> Table:
    ours, top = "Embedding_0", len(settings["multipliers"]) - 1
    made = layer(f"{ours}/Dense_0", "time_embedding.linear_1")
    made |= layer(f"{ours}/Dense_1", "time_embedding.linear_2")
    if settings.get("classes"):
        made[f"{ours}/label/embedding"] = (with_null, "class_embedding.weight")
    for step in walk(settings, size):
        places = {
            "encoder": f"down_blocks.{step.level}",
            "middle": "mid_block",
            "decoder": f"up_blocks.{top - step.level}",
        }
        if step.kind == "first":
            made |= conv(step.ours, "conv_in")
        elif step.kind == "last":
            made |= head(step, "conv_norm_out", "conv_out")
        elif step.kind == "down":
            made |= conv(step.ours, f"down_blocks.{step.level - 1}.downsamplers.0.conv")
        elif step.kind == "up":
            made |= conv(step.ours, f"up_blocks.{top - step.level}.upsamplers.0.conv")
        else:
            place = places[step.kind]
            made |= _block(step, f"{place}.resnets.{step.i}")
            if step.attention:
                made |= _attention(step.attention, f"{place}.attentions.{step.i}")
    return made


def _block(step: Step, theirs: str) -> Table:
    made: Table = {}
    for i in range(2):
        made |= norm(f"{step.ours}/GroupNorm_{i}", f"{theirs}.norm{i + 1}")
        made |= conv(f"{step.ours}/Conv_{i}", f"{theirs}.conv{i + 1}")
    made |= layer(f"{step.ours}/Dense_0", f"{theirs}.time_emb_proj")
    return made | (layer(f"{step.ours}/skip", f"{theirs}.conv_shortcut") if step.skip else {})


def _attention(ours: str, theirs: str) -> Table:
    made = norm(f"{ours}/GroupNorm_0", f"{theirs}.group_norm")
    for leaf, part in (("kernel", "weight"), ("bias", "bias")):
        names = (f"{theirs}.to_{which}.{part}" for which in "qkv")
        made[f"{ours}/qkv/{leaf}"] = (side_by_side, *names)
    return made | layer(f"{ours}/out", f"{theirs}.to_out.0")
