"""Converter of EDM's networks: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM).

Source: arXiv:2206.00364.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.arrays import Params
from diffjax.io.contents import Contents
from diffjax.published.family import Converted
from diffjax.published.tables import (
    Table,
    below,
    conv,
    converted,
    interleaved,
    kernel,
    layer,
    matrix,
    norm,
    same,
    with_null,
)
from diffjax.published.walk import Step, head, walk
from diffjax.schedules import ddpm_cosine
from diffjax.sde import VP, levels


def one_hot(w: np.ndarray) -> np.ndarray:
    """Return our rows of labels for a layer (O, classes) on one-hot labels."""
    return with_null(w.T)


def scaled_one_hot(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return our rows of labels for a layer on one-hot labels of norm sqrt(classes)."""
    return with_null(w.T * np.sqrt(w.shape[1])) + b


def _block(step: Step, theirs: str) -> Table:
    entries = norm(f"{step.ours}/GroupNorm_0", f"{theirs}.norm0")
    entries |= conv(f"{step.ours}/Conv_0", f"{theirs}.conv0")
    entries |= layer(f"{step.ours}/Dense_0", f"{theirs}.affine")
    entries |= norm(f"{step.ours}/GroupNorm_1", f"{theirs}.norm1")
    entries |= conv(f"{step.ours}/Conv_1", f"{theirs}.conv1")
    if step.skip:
        entries |= layer(f"{step.ours}/skip", f"{theirs}.skip")
    if step.attention:
        qkv = interleaved(step.heads, "hc3")
        entries |= norm(f"{step.attention}/GroupNorm_0", f"{theirs}.norm2")
        entries |= layer(f"{step.attention}/qkv", f"{theirs}.qkv", qkv, qkv)
        entries |= layer(f"{step.attention}/out", f"{theirs}.proj")
    return entries


def table(settings: Mapping[str, Any], size: int) -> Table:
    """Return the table for a network with these settings, and images of side `size`."""
    song, ours = settings.get("early_conditions", False), "Embedding_0"
    entries = layer(f"{ours}/Dense_0", "map_layer0") | layer(f"{ours}/Dense_1", "map_layer1")
    if settings.get("embedding") == "fourier":
        entries[f"{ours}/fourier/frequencies"] = (same, "map_noise.freqs")
    if settings.get("classes"):
        label = (scaled_one_hot, "map_label.weight", "map_label.bias")
        entries[f"{ours}/label/embedding"] = label if song else (one_hot, "map_label.weight")
    if settings.get("augment"):
        entries |= layer(f"{ours}/augment", "map_augment", bias=None)
    for step in walk(settings, size):
        place = f"{size >> step.level}x{size >> step.level}"
        above = f"{2 * size >> step.level}x{2 * size >> step.level}"
        if step.kind == "first":
            entries |= conv(step.ours, f"enc.{place}_conv")
        elif step.kind == "last":
            names = ("out_norm", "out_conv")
            names = (f"dec.{place}_aux_norm", f"dec.{place}_aux_conv") if song else names
            entries |= head(step, *names)
        else:
            theirs = {
                "down": f"enc.{place}_down",
                "encoder": f"enc.{place}_block{step.i}",
                "middle": f"dec.{place}_in{step.i}",
                "decoder": f"dec.{place}_block{step.i}",
                "up": f"dec.{above}_up",
            }[step.kind]
            entries |= _block(step, theirs)
        pyramid = settings.get("input_pyramid", "none")
        if step.kind == "down" and pyramid != "none":
            aux, layout = f"enc.{place}_aux_{pyramid}", kernel if pyramid == "residual" else matrix
            entries |= layer(f"input_{step.level}", aux, layout)
    return entries


POSITIONAL = {
    "early_conditions": True,
    "last_attends": True,
    "resample": "projected_block",
    "rescale": True,
    "epsilon": 1e-6,
    "heads": 1,
}
ADM = {"embedding": "adm", "resample": "block", "scale_shift": True, "head_channels": 64}
PYRAMIDS = {"standard": "none", "skip": "skip", "residual": "residual"}
SONG_DEFAULTS = {
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "num_blocks": 4,
    "attn_resolutions": [16],
    "dropout": 0.1,
    "augment_dim": 0,
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}
ADM_DEFAULTS = {
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
    "dropout": 0.1,
    "augment_dim": 0,
}
CHOICES = {
    "embedding_type": ("positional", "fourier"),
    "encoder_type": tuple(PYRAMIDS),
    "decoder_type": tuple(PYRAMIDS),
}
STEPS, LOW, HIGH = 18, 0.002, 80.0
"""Steps of EDM's sampler, and the range of sigma, which is cut to that of the network."""


def recognises(contents: Contents) -> bool:
    """Return whether the contents are a network of EDM."""
    ema = contents.settings.get("ema")
    return isinstance(ema, dict) and ema.get("class") in PRECONDITIONED


WHOLE = ("img_resolution", "img_channels", "label_dim")
NEEDS: dict[str, tuple[str, ...]] = {
    "EDMPrecond": ("sigma_data", "sigma_min", "sigma_max"),
    "VPPrecond": ("beta_min", "beta_d", "M", "sigma_min", "sigma_max"),
    "VEPrecond": ("sigma_min", "sigma_max"),
    "iDDPMPrecond": ("M", "C_1", "C_2"),
}
"""Numbers that each class of network stores."""


def averaged(contents: Contents, inner: str, whole: tuple[str, ...], numbers: Any) -> Any:
    """Return the fields of `ema`, whose network is the field `inner`.

    whole: names of fields with whole numbers. numbers: names of the other numbers, by the class of
    the network. Raises ValueError where there is no such network, or where a field is missing, of
    another type or out of range.
    """
    net = contents.settings.get("ema")
    if not isinstance(net, dict) or net.get("class") not in [*numbers]:
        raise ValueError(f"holds no network under 'ema'; known classes: {', '.join(numbers)}")
    network = net.get(inner)
    if not isinstance(network, dict) or not isinstance(network.get("_init_kwargs"), dict):
        raise ValueError(f"ema.{inner}: holds no network with its arguments")
    for name in (*whole, *numbers[net["class"]]):
        kinds = (int,) if name in whole else (int, float)
        least = 0 if name in ("sigma_min", "label_dim") else 1e-12
        most = math.inf if name == "sigma_max" else 1e6
        if type(net.get(name)) not in kinds or not least <= net[name] <= most:
            raise ValueError(f"ema.{name}={net.get(name)!r}; needs {least:g} to {most:g}")
    return net


def arguments(stated: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network with their defaults.

    Raises ValueError for a value of another type than its default.
    """
    have = {**defaults, **stated}
    for name, default in defaults.items():
        if not like(have[name], default):
            raise ValueError(f"{name}={have[name]!r}; needs a value such as {default!r}")
    return have


def like(value: Any, default: Any) -> bool:
    """Return whether a value is of the type of `default`: number, text or list of integers."""
    if isinstance(default, list):
        return (
            isinstance(value, list | tuple) and value != [] and all(type(v) is int for v in value)
        )
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)


def convert(contents: Contents, steps: int = STEPS) -> Converted:
    """Convert a pickled `EDMPrecond`, `VPPrecond`, `VEPrecond` or `iDDPMPrecond`, its `ema`.

    steps: number of steps of the sampler, Heun's method on the rho = 7 grid, which is the
    original's default. Raises ValueError for settings that our network does not support.
    """
    net = averaged(contents, "model", WHOLE, NEEDS)
    inner, size = net["model"], net["img_resolution"]
    kinds = {"SongUNet": _song, "DhariwalUNet": _adm}
    if inner.get("class") not in [*kinds]:
        raise ValueError(f"ema.model: class {inner.get('class')!r}; known: {', '.join(kinds)}")
    network = kinds[inner["class"]](inner["_init_kwargs"])
    classes = net["label_dim"]
    network["learn_variance"] = net["class"] == "iDDPMPrecond"
    tensors = below(contents.tensors, "ema.model.", ("resample_filter",))
    augment = inner["_init_kwargs"].get("augment_dim", 0)
    if augment:
        network["conditions"] = {"augment": {"size": augment}}
    params = converted(table({**network, "classes": classes, "augment": augment}, size), tensors)
    if net["class"] == "VEPrecond":
        params = negated(params, network, size)
    sections = PRECONDITIONED[net["class"]](net, steps)
    sampling = {"sampler": {"name": "heun"}, "grid": {"name": "karras"}, "steps": steps}
    config = {"sampling": sampling, **sections, "network": network}
    return Converted(config, (size, size, net["img_channels"]), classes, params)


def _song(stated: Mapping[str, Any]) -> dict[str, Any]:
    have = arguments(stated, SONG_DEFAULTS)
    for name, known in CHOICES.items():
        if have[name] not in known:
            raise ValueError(f"{name}={have[name]!r}: not supported; known: {', '.join(known)}")
    fourier = have["embedding_type"] == "fourier"
    if have.get("channel_mult_noise", 1) != 1 + fourier:
        raise ValueError(f"channel_mult_noise={have['channel_mult_noise']}: needs {1 + fourier}")
    return _common(have) | {
        **POSITIONAL,
        "embedding": "fourier" if fourier else "ddpm",
        "kernel": tuple(have["resample_filter"]),
        "input_pyramid": PYRAMIDS[have["encoder_type"]],
        "output_pyramid": PYRAMIDS[have["decoder_type"]],
    }


def _adm(stated: Mapping[str, Any]) -> dict[str, Any]:
    return _common(arguments(stated, ADM_DEFAULTS)) | ADM


def _common(have: Mapping[str, Any]) -> dict[str, Any]:
    if have.get("channel_mult_emb", 4) != 4:
        raise ValueError(f"channel_mult_emb={have['channel_mult_emb']}: needs 4")
    return {
        "name": "unet",
        "channels": have["model_channels"],
        "multipliers": tuple(have["channel_mult"]),
        "blocks": have["num_blocks"],
        "attention": tuple(have["attn_resolutions"]),
        "dropout": have["dropout"],
    }


def negated(params: Params, network: Mapping[str, Any], size: int) -> Params:
    """Return the parameters of a network whose output has the opposite sign."""
    heads = {step.ours for step in walk(network, size) if step.kind == "last"}
    heads = {f"output{name}" if name.startswith("_") else name for name in heads}
    flip = lambda part: {leaf: -value for leaf, value in part.items()}
    return {name: flip(part) if name in heads else part for name, part in params.items()}


def _range(net: Mapping[str, Any]) -> tuple[float, float]:
    """Return the lowest and the highest sigma of the sampler, within the range of the network."""
    low, high = max(LOW, net["sigma_min"]), min(HIGH, net["sigma_max"])
    if not low < high:
        raise ValueError(f"sigma from {net['sigma_min']} to {net['sigma_max']}: needs min < max")
    return low, high


def _edm(net: Mapping[str, Any], steps: int) -> dict[str, Any]:
    low, high = _range(net)
    return {
        "sde": ve(low, high),
        "parameterization": {
            "name": "edm",
            "sigma_data": float(net["sigma_data"]),
            "c_noise": "quarter_log_sigma",
        },
    }


def ve(low: float, high: float) -> dict[str, Any]:
    """Return the process sigma = high t, for sigma from `low` to `high`."""
    schedule = {"name": "edm", "sigma_max": float(high)}
    return {"name": "ve", "t_min": low / high, "schedule": schedule}


def _ve(net: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the sections of VE: as D = x + sigma F, F is -eps, and the parameters are negated."""
    return {"sde": ve(*_range(net)), "parameterization": eps("log_half_sigma")}


def eps(c_noise: str) -> dict[str, Any]:
    """Return the section of a network that predicts eps from unscaled inputs."""
    return {"name": "eps", "c_noise": c_noise, "scale_input": False}


def _vp(net: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the sections of VP: c_in x is x_t, and as D = x - sigma F, F is eps."""
    first, rise = net["beta_min"], net["beta_d"]
    if net["M"] != 1000:
        raise ValueError(f"M={net['M']}: needs 1000")
    times = [
        (math.sqrt(first**2 + 2 * rise * math.log1p(s**2)) - first) / rise for s in _range(net)
    ]
    schedule = {"name": "linear", "beta_min": first, "beta_max": first + rise}
    sde = {"name": "vp", "t_min": times[0], "t_max": times[1], "schedule": schedule}
    return {"sde": sde, "parameterization": eps("time_999")}


def _iddpm(net: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the sections of `_vp` on a table of betas, to whose sigma the grid is rounded."""
    total = net["M"]
    cosine = ddpm_cosine(total, net["C_2"], 1 - net["C_1"])
    at = np.exp(-levels(VP(cosine), np.arange(1, total + 1) / total).lam)
    low, high = max(LOW, at[0]), min(HIGH, at[-1])
    rho = np.linspace(high ** (1 / 7), low ** (1 / 7), steps) ** 7
    times = tuple(float(np.abs(at - sigma).argmin() + 1) / total for sigma in rho)
    schedule = {"name": "ddpm_cosine", "steps": total, "s": net["C_2"], "most": 1 - net["C_1"]}
    return {
        "sde": {"name": "vp", "t_min": times[-1], "t_max": times[0], "schedule": schedule},
        "parameterization": eps("index"),
        "sampling": {
            "sampler": {"name": "heun"},
            "grid": {"name": "explicit", "times": times},
            "steps": steps,
        },
    }


PRECONDITIONED = {
    "EDMPrecond": _edm,
    "VPPrecond": _vp,
    "VEPrecond": _ve,
    "iDDPMPrecond": _iddpm,
}
