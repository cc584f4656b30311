"""config.sampling to how samples are made."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from diffjax.build.construct import call, construct, fields, lookup, refuse
from diffjax.config import Config, ConfigError, checked, known
from diffjax.grids import GRIDS
from diffjax.guidance import GUIDANCES, Guidance
from diffjax.samplers import CORRECTORS, SAMPLERS, Table
from diffjax.samplers.generate import How, Plan
from diffjax.sde import SDE, levels

SAMPLING = {"grid": {"name": "uniform"}, "steps": 50, "guidance": 1.0, "noise": "independent"}
"""What config.sampling need not say."""
PLANNED = (*SAMPLING, "sampler", "corrector", "interval")
NOISES = {"independent": lambda table: table, "brownian": Table.brownian}
"""Noise of its own for each row, or that of one path per sample: more steps refine the sample."""


def plan(
    spec: Config,
    sde: SDE,
    conditional: bool,
    learned: bool = False,
    place: str = "config.sampling",
) -> How:
    """How to sample. learned: whether the network has a second output.

    `guidance`: the weight; 1 is the conditional model as it is. `interval`: of sigma / alpha, in
    which rows are guided; the others make one network pass. `corrector`: rows between the steps.
    `noise`: independent, or brownian. The sampler `adaptive` has neither grid nor steps.
    """
    known(spec, PLANNED, place)
    spec = {**SAMPLING, **spec}
    weight = checked(spec["guidance"], float, f"{place}.guidance")
    if weight != 1 and not conditional:
        raise ConfigError(f"{place}.guidance={weight:g}: the network is unconditional; allowed: 1")
    if not np.isfinite(weight):
        raise ConfigError(f"{place}.guidance={weight}: needs a finite number")
    guidance = GUIDANCES["classifier_free" if weight != 1 else "conditional"]()
    fields(spec.get("sampler", {}), f"{place}.sampler")
    if spec.get("sampler", {}).get("name") == "adaptive":
        return _adaptive(spec, sde, weight, guidance, place)
    table = construct_table(spec, sde, place)
    if table.learned and not learned:
        raise ConfigError(
            f"{place}.sampler.name={spec['sampler']['name']!r}: the network has no second output "
            f"(config.network.learn_variance); allowed: the other samplers"
        )
    guided = np.ones(len(table), bool)
    if "interval" in spec:
        interval = checked(spec["interval"], tuple[float, ...], f"{place}.interval")
        if len(interval) != 2 or not 0 <= interval[0] < interval[1]:
            raise ConfigError(f"{place}.interval={interval}: needs two numbers, 0 <= low < high")
        rho = np.exp(-levels(sde, table.t).lam)
        guided = (interval[0] <= rho) & (rho <= interval[1])
    return Plan(dataclasses.replace(table, weight=np.where(guided, weight, 1.0)), guidance)


def construct_table(spec: Config, sde: SDE, place: str) -> Table:
    """The rows of the sampler, of its corrector, and where their noise comes from."""
    spec = {**SAMPLING, **spec}
    steps = checked(spec["steps"], int, f"{place}.steps")
    times = construct_grid(spec["grid"], f"{place}.grid")(sde, steps)
    table = construct_sampler(spec.get("sampler", {}), f"{place}.sampler")(sde, times)
    if "corrector" in spec:
        corrector = construct(CORRECTORS, spec["corrector"], f"{place}.corrector", partial=True)
        table = refuse(f"{place}.corrector")(corrector)(sde, table)
    noise = lookup(NOISES, spec["noise"], f"{place}.noise")
    return refuse(f"{place}.noise")(noise)(table)


def construct_grid(spec: Config, place: str) -> Callable[[SDE, int], np.ndarray]:
    """`(sde, steps) -> times`."""
    return refuse(place)(construct(GRIDS, spec, place, partial=True))


def construct_sampler(spec: Config, place: str) -> Callable[[SDE, np.ndarray], Table]:
    """`(sde, times) -> Table`."""
    return refuse(place)(construct(SAMPLERS, spec, place, partial=True))


def _adaptive(spec: Config, sde: SDE, weight: float, guidance: Guidance, place: str) -> How:
    if unused := {"corrector", "interval"} & set(spec):
        raise ConfigError(f"{place}.{min(unused)}: the sampler adaptive has no rows for it")
    from diffjax.samplers.adaptive import adaptive  # diffrax takes half a second to import

    own = {k: v for k, v in spec["sampler"].items() if k != "name"}
    return call(adaptive, own, f"{place}.sampler", sde=sde, weight=weight, guidance=guidance)


def listing() -> str:
    """All samplers, correctors and grids with their settings; order and passes of samplers."""
    from diffjax.samplers.adaptive import adaptive

    lines = ["samplers (order; rows per step; settings)"]
    for name, entry in SAMPLERS.items():
        lines += _described(name, entry.plan, f"{entry.order()}  {entry.passes}")
    lines += _described("adaptive", adaptive, "-  -")
    for title, table in (("correctors", CORRECTORS), ("grids", GRIDS)):
        lines.append(f"\n{title} (settings)")
        for name, entry in table.items():
            lines += _described(name, entry, "")
    return "\n".join(lines)


def _described(name: str, function: Callable[..., Any], facts: str) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    plain = str | int | float | tuple
    defaults = [p for p in parameters if isinstance(p.default, plain) and p.name != "weight"]
    settings = ", ".join(f"{p.name}={p.default}" for p in defaults)
    text = (function.__doc__ or "").strip().split("\n\n")[0]
    first = f"  {name:<18} {facts}  {settings}".rstrip()
    return [
        first,
        *textwrap.wrap(
            " ".join(text.split()), 96, initial_indent=" " * 6, subsequent_indent=" " * 6
        ),
    ]


def order(spec: Config) -> int:
    """Of the sampler of config.sampling, with its settings."""
    settings = {k: v for k, v in spec["sampler"].items() if k != "name"}
    return SAMPLERS[spec["sampler"]["name"]].order(**settings)
