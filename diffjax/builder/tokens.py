"""Construction of the sampling plans of discrete diffusion from config.sampling."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffjax.builder.construct import construct, refuse
from diffjax.builder.sampling import SAMPLING, construct_grid
from diffjax.config import Config, ConfigError, checked, known
from diffjax.data.form import Form
from diffjax.discrete import Process
from diffjax.samplers.tokens import TOKEN_SAMPLERS, Tokens
from diffjax.sde import SDE

PLANNED = ("sampler", "grid", "steps", "guidance", "ema")


def plan_tokens(
    process: Process,
    spec: Config,
    sde: SDE,
    form: Form,
    *,
    place: str = "config.sampling",
    per_sample: bool = False,
    strength: float = 1.0,
    **unused: Any,
) -> Tokens:
    """Plan the sampling of tokens of data of this form, as `plan` does for Gaussian noise.

    `sampler`: an entry of `TOKEN_SAMPLERS` with its temperature. `grid`, `steps`: the times of the
    rows. `guidance`: the weight of guidance on logits. Raises ConfigError for what does not apply
    to tokens.

    >>> from diffjax import schedules, sde
    >>> from diffjax.discrete import Masked
    >>> form = Form("image", (8, 8, 1), dtype="uint8")
    >>> spec = {"sampler": {"name": "first_hitting"}, "steps": 64}
    >>> plan_tokens(Masked(17), spec, sde.Flow(schedules.Logit()), form).passes
    64
    """
    known({k: v for k, v in spec.items() if (k, v) != ("noise", "independent")}, PLANNED, place)
    spec = {**SAMPLING, **spec}
    checked(spec.get("ema", ""), str | float, f"{place}.ema")
    if unused.get("negative") or unused.get("empty"):
        raise ConfigError("negative: guidance of tokens leads away from missing conditions")
    if strength != 1:
        raise ConfigError(f"--strength={strength:g}: tokens start from the prior; allowed: 1")
    weight = checked(spec["guidance"], float, f"{place}.guidance")
    if weight != 1 and not form.conditional:
        raise ConfigError(f"{place}.guidance={weight:g}: the data have no conditions; allowed: 1")
    steps = checked(spec["steps"], int, f"{place}.steps")
    times = construct_grid(spec["grid"], f"{place}.grid")(sde, steps)
    sampler = construct(TOKEN_SAMPLERS, spec.get("sampler", {}), f"{place}.sampler", partial=True)
    more = {"process": process, "shape": form.shape, "weight": weight}
    planned = refuse(f"{place}.sampler")(sampler)(sde, times, **more)
    return dataclasses.replace(planned, guided=True) if per_sample else planned
