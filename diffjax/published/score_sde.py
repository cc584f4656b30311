"""score_sde's networks: DDPM, and DDPM++ and NCSN++ (arXiv:2011.13456)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.published.tables import Table, conv, kernel, layer, matrix, norm, same, stacked
from diffjax.published.walk import Step, head, walk


def table(settings: Mapping[str, Any], size: int) -> Table:
    names = (f"all_modules.{i}" for i in range(10_000))
    made: Table = {}
    if settings.get("embedding") == "fourier":
        made["Embedding_0/fourier/frequencies"] = (same, f"{next(names)}.W")
    for i in range(2):
        made |= layer(f"Embedding_0/Dense_{i}", next(names))
    for step in walk(settings, size):
        theirs = next(names)
        if step.kind == "first":
            made |= conv(step.ours, theirs)
        elif step.kind == "last":
            made |= head(step, theirs, next(names))
        elif step.ours.startswith("Conv"):
            made |= conv(step.ours, f"{theirs}.Conv_0")
        else:
            block = settings.get("resample") == "projected_block"
            made |= _block(step, theirs, "Conv_2" if block else "NIN_0")
            if step.attention:
                made |= _attention(step.attention, next(names))
        if step.kind == "down" and (pyramid := settings.get("input_pyramid", "none")) != "none":
            aux = f"{next(names)}.{'Conv2d_0' if pyramid == 'residual' else 'Conv_0'}"
            layout = kernel if pyramid == "residual" else matrix
            made |= layer(f"input_{step.level}", aux, layout)
    return made


def _block(step: Step, theirs: str, skip: str) -> Table:
    made: Table = {}
    for i in range(2):
        made |= norm(f"{step.ours}/GroupNorm_{i}", f"{theirs}.GroupNorm_{i}")
        made |= conv(f"{step.ours}/Conv_{i}", f"{theirs}.Conv_{i}")
    made |= layer(f"{step.ours}/Dense_0", f"{theirs}.Dense_0")
    if step.skip and skip.startswith("NIN"):
        made[f"{step.ours}/skip/kernel"] = (same, f"{theirs}.{skip}.W")
        made[f"{step.ours}/skip/bias"] = (same, f"{theirs}.{skip}.b")
    elif step.skip:
        made |= layer(f"{step.ours}/skip", f"{theirs}.{skip}")
    return made


def _attention(ours: str, theirs: str) -> Table:
    made = norm(f"{ours}/GroupNorm_0", f"{theirs}.GroupNorm_0")
    for leaf, part in (("kernel", "W"), ("bias", "b")):
        made[f"{ours}/qkv/{leaf}"] = (stacked, *(f"{theirs}.NIN_{i}.{part}" for i in range(3)))
        made[f"{ours}/out/{leaf}"] = (same, f"{theirs}.NIN_3.{part}")
    return made
