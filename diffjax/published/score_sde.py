"""Converter of score_sde's networks: DDPM, DDPM++ and NCSN++ (arXiv:2011.13456)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.io.contents import Contents
from diffjax.io.trees import some
from diffjax.published import score_sde_flax
from diffjax.published.edm import eps, negated
from diffjax.published.family import Converted
from diffjax.published.tables import (
    Table,
    below,
    conv,
    converted,
    kernel,
    layer,
    matrix,
    norm,
    same,
    stacked,
)
from diffjax.published.walk import Step, head, walk


def table(settings: Mapping[str, Any], size: int) -> Table:
    """Return the table for a network with these settings, and images of side `size`."""
    names = (f"all_modules.{i}" for i in range(10_000))
    entries: Table = {}
    if settings.get("embedding") == "fourier":
        entries["Embedding_0/fourier/frequencies"] = (same, f"{next(names)}.W")
    for i in range(2):
        entries |= layer(f"Embedding_0/Dense_{i}", next(names))
    for step in walk(settings, size):
        theirs = next(names)
        if step.kind == "first":
            entries |= conv(step.ours, theirs)
        elif step.kind == "last":
            entries |= head(step, theirs, next(names))
        elif step.ours.startswith("Conv"):
            entries |= conv(step.ours, f"{theirs}.Conv_0")
        else:
            block = settings.get("resample") == "projected_block"
            entries |= _block(step, theirs, "Conv_2" if block else "NIN_0")
            if step.attention:
                entries |= _attention(step.attention, next(names))
        if step.kind == "down" and (pyramid := settings.get("input_pyramid", "none")) != "none":
            aux = f"{next(names)}.{'Conv2d_0' if pyramid == 'residual' else 'Conv_0'}"
            layout = kernel if pyramid == "residual" else matrix
            entries |= layer(f"input_{step.level}", aux, layout)
    return entries


def _block(step: Step, theirs: str, skip: str) -> Table:
    entries: Table = {}
    for i in range(2):
        entries |= norm(f"{step.ours}/GroupNorm_{i}", f"{theirs}.GroupNorm_{i}")
        entries |= conv(f"{step.ours}/Conv_{i}", f"{theirs}.Conv_{i}")
    entries |= layer(f"{step.ours}/Dense_0", f"{theirs}.Dense_0")
    if step.skip and skip.startswith("NIN"):
        entries[f"{step.ours}/skip/kernel"] = (same, f"{theirs}.{skip}.W")
        entries[f"{step.ours}/skip/bias"] = (same, f"{theirs}.{skip}.b")
    elif step.skip:
        entries |= layer(f"{step.ours}/skip", f"{theirs}.{skip}")
    return entries


def _attention(ours: str, theirs: str) -> Table:
    entries = norm(f"{ours}/GroupNorm_0", f"{theirs}.GroupNorm_0")
    for leaf, part in (("kernel", "W"), ("bias", "b")):
        entries[f"{ours}/qkv/{leaf}"] = (stacked, *(f"{theirs}.NIN_{i}.{part}" for i in range(3)))
        entries[f"{ours}/out/{leaf}"] = (same, f"{theirs}.NIN_3.{part}")
    return entries


MODELS, SHADOW, AVERAGES = ("model.module.", "model."), "ema.shadow_params.", "params_ema."
"""Prefixes of the parameters of networks on several devices and on one, and of the averages."""
FIXED, SIGMAS = ("sigmas",), re.compile(r"model\.(module\.)?sigmas")
DDPM = {"heads": 1, "last_attends": True, "resample": "conv", "epsilon": 1e-6}
"""Settings of the class `DDPM`; those of `NCSNpp` with BigGAN's blocks follow."""
NCSNPP = {
    **DDPM,
    "early_conditions": True,
    "resample": "projected_block",
    "rescale": True,
}
SDES = ("vp", "subvp", "ve")
SIDES = {(1, 2, 2, 2): 32, (1, 1, 2, 2, 2, 2, 2): 256}
"""Sides of images, by the multipliers of the published networks."""


def recognises(contents: Contents) -> bool:
    """Return whether the contents are a checkpoint of score_sde, in PyTorch or Flax."""
    return f"{SHADOW}0" in contents.tensors or _is_flax(contents)


def convert(
    contents: Contents,
    sde: str = "",
    discrete: bool = False,
    size: int = 0,
    attention: int = 16,
    sigma_max: float = 0.0,
) -> Converted:
    """Convert a checkpoint with its averaged parameters: `.pth`, or that of the original in Flax.

    sde: vp, subvp or ve; a network with Fourier features receives noise levels, so it is ve.
    discrete: trained on 1,000 noise levels (`training.continuous=False`). size: side of the images,
    where the multipliers are not published ones. attention: height at which blocks have attention;
    it is 16 in all published networks. sigma_max: the largest sigma of ve, where the file does not
    hold it (Flax). The original's images are in [0, 1], so the noise levels here, for [-1, 1], are
    twice its own. Raises ValueError for settings that are missing or out of range.
    """
    flax = _is_flax(contents)
    tensors = below(contents.tensors, AVERAGES) if flax else _averaged(contents.tensors)
    network = _settings(**(score_sde_flax.parts if flax else _parts)(tensors))
    fourier = network["embedding"] == "fourier"
    sde = sde or ("ve" if fourier else "")
    if sde not in SDES or (fourier and sde != "ve"):
        wanted = "ve" if fourier else ", ".join(SDES)
        raise ValueError(f"sde={sde!r}: does not follow from the tensors; set it to {wanted}")
    size = size or SIDES.get(network["multipliers"], 0)
    halves = len(network["multipliers"]) - 1
    if size < 0 or size % 2**halves:
        raise ValueError(f"size={size}: needs a size divisible by {2**halves}")
    if not size:
        raise ValueError("size: does not follow from the tensors; set size=N, the side of images")
    network["attention"] = (attention,)
    named = score_sde_flax.table if flax else table
    params = converted(named(network, size), tensors)
    if sde == "ve":
        params = negated(params, network, size)
    sigmas = next((a for name, a in contents.tensors.items() if SIGMAS.fullmatch(name)), None)
    high = sigma_max or (0.0 if sigmas is None else float(sigmas.max()))
    low = 0.01 if sigmas is None else float(sigmas.min())
    if sde == "ve" and not high:
        raise ValueError("sigma_max: does not follow from the tensors; set it, as sigma_max=50")
    sections = _ve(low, high, fourier) if sde == "ve" else _vp(sde, discrete)
    return Converted({**sections, "network": network}, (size, size, 3), 0, params)


def _is_flax(contents: Contents) -> bool:
    return f"{AVERAGES}Dense_0.kernel" in contents.tensors


def _averaged(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the averages by the names of the trained parameters, whose order their list has."""
    if f"{SHADOW}0" not in tensors:
        raise ValueError(f"not the tensors of this network: {some('missing', [f'{SHADOW}0'])}")
    model = next((m for m in MODELS if any(n.startswith(f"{m}all_modules.") for n in tensors)), "")
    if not model:
        raise ValueError(f"not the tensors of this network: {some('missing', ['model'])}")
    whole = below(tensors, model, FIXED)
    first = "all_modules.0.W"
    trained = [name for name in whole if name != first or whole[name].ndim > 1]
    shadow = [tensors[f"{SHADOW}{i}"] for i in range(len(below(tensors, SHADOW)))]
    shapes = [whole[name].shape for name in trained]
    if [a.shape for a in shadow] != shapes or len(shadow) != len(trained):
        raise ValueError("ema.shadow_params: shapes differ from those of the parameters of model")
    return whole | dict(zip(trained, shadow, strict=True))


NUMBERED = re.compile(r"all_modules\.(\d{1,6})\.(.+)")


def _parts(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the arguments of `_settings`, from the names and shapes of tensors in PyTorch."""
    named = [(NUMBERED.fullmatch(name), name, a.shape) for name, a in tensors.items()]
    if strange := [name for match, name, _ in named if not match]:
        raise ValueError(f"not the tensors of this network: {some('unexpected', strange)}")
    parts = sorted((int(match[1]), match[2], shape) for match, _, shape in named if match)
    find = lambda leaf: [shape for _, name, shape in parts if name == leaf]
    blocks = {n for n, name, _ in parts if name == "Dense_0.weight"}
    widths = [shape[0] for n, name, shape in parts if n in blocks and name == "Conv_0.bias"]
    others = [s for n, name, s in parts if n not in blocks and name == "Conv_0.weight"]
    fourier = bool(find("W")) and len(find("W")[0]) == 1
    if len(find("bias")) < 3 or not widths:
        raise ValueError("not the tensors of this network: too few layers")
    return dict(
        widths=widths,
        around=[shape[:2] for shape in find("Conv_2.weight")],
        moves=sum(shape[-1] == 3 for shape in others),
        channels=find("bias")[2][0],
        fourier=fourier,
        residual=bool(find("Conv2d_0.weight")),
        skip=any(shape[-1] == 1 for shape in others),
        outputs=len([s for s in find("weight") if len(s) == 4]) - 1,
    )


def _settings(
    widths: list[int],
    around: list[tuple[int, ...]],
    moves: int,
    channels: int,
    fourier: bool,
    residual: bool,
    skip: bool,
    outputs: int,
) -> dict[str, Any]:
    """Return the settings of a network of these parts.

    widths: those of all blocks, in order. around: inputs and outputs of the 1 x 1 convolutions in
    the skip connections of BigGAN's blocks; blocks that change the resolution have one between
    equal numbers of channels. moves: number of convolutions that change the resolution. Raises
    ValueError for numbers of blocks that no network has.
    """
    big = bool(around)
    levels = 1 + (sum(a == b for a, b in around) if big else moves) // 2
    more = 3 * levels if big else levels + 2
    each = (len(widths) - more) // (2 * levels)
    if each < 1 or (levels - 1) * (each + big) >= len(widths):
        raise ValueError(f"{len(widths)} blocks on {levels} levels: not supported")
    pyramid = "residual" if residual else "skip" if skip else "none"
    return {
        "name": "unet",
        "channels": channels,
        "multipliers": tuple(widths[i * (each + big)] // channels for i in range(levels)),
        "blocks": each,
        "embedding": "fourier" if fourier else "ddpm",
        "kernel": (1, 1) if pyramid == "none" else (1, 3, 3, 1),
        "input_pyramid": pyramid,
        "output_pyramid": "skip" if outputs > 1 else "none",
        "dropout": 0.1,
        **(NCSNPP if big else DDPM),
    }


def _ve(low: float, high: float, fourier: bool) -> dict[str, Any]:
    """Return the sections of VE: the network predicts -eps, so its parameters are negated."""
    schedule = {"name": "geometric", "sigma_min": 2 * low, "sigma_max": 2 * high}
    return {
        "sde": {"name": "ve", "t_min": 1e-5, "schedule": schedule},
        "parameterization": eps("log_half_sigma" if fourier else "time_999_reversed"),
        "sampling": {
            "sampler": {"name": "reverse_diffusion"},
            "corrector": {"name": "langevin", "snr": 0.16},
            "grid": {"name": "uniform"},
            "steps": 1000,
        },
    }


def _vp(sde: str, discrete: bool) -> dict[str, Any]:
    linear: dict[str, Any] = {"name": "linear", "beta_min": 0.1, "beta_max": 20.0}
    if sde == "subvp":
        process = {"name": "sub_vp", "schedule": {"name": "classic_sub_vp", "schedule": linear}}
    elif discrete:
        process = {"name": "vp", "schedule": {"name": "ddpm_linear", "steps": 1000}}
    else:
        process = {"name": "vp", "schedule": linear}
    discrete = discrete and sde == "vp"
    sampler = "ancestral_upper" if discrete else "euler_maruyama"
    grid = {"name": "linspace", "total": 1000} if discrete else {"name": "uniform"}
    return {
        "sde": {**process, "t_min": 1e-3},
        "parameterization": eps("index" if discrete else "time_999"),
        "sampling": {"sampler": {"name": sampler}, "grid": grid, "steps": 1000},
    }
