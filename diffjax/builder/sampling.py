"""config.sampling to how samples are made."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from diffjax.builder.construct import call, construct, fields, instance, lookup, refuse
from diffjax.builder.guidance import Section, takes_to
from diffjax.config import Config, ConfigError, checked, known
from diffjax.data.form import Form
from diffjax.evaluation import OF_NETWORK, OF_SAMPLES
from diffjax.features import EXTRACTORS
from diffjax.grids import GRIDS
from diffjax.guidance import RAMPS, REFERENCES, RULES, THRESHOLDS, ramps
from diffjax.samplers import CORRECTORS, SAMPLERS, Sampler, Table
from diffjax.samplers.plan import Plan, Sampling
from diffjax.sde import SDE

SAMPLING = {"grid": {"name": "uniform"}, "steps": 50, "guidance": 1.0, "noise": "independent"}
"""What config.sampling need not say."""
PLANNED = (*SAMPLING, "sampler", "corrector", "ema")
NOISES = {"independent": lambda table: table, "brownian": Table.brownian}
"""Noise of its own for each row, or that of one path per sample: more steps refine the sample."""


def plan(
    spec: Config,
    sde: SDE,
    form: Form,
    *,
    learned: bool = False,
    leads: bool = False,
    place: str = "config.sampling",
    per_sample: bool = False,
) -> Sampling:
    """How to sample data of this form. learned: whether the network has a second output. leads:
    whether it takes a second time, `to`. per_sample: whether each sample brings its guidance weight
    (`Sampling.weighted`).

    `sampler`: its rows; `adaptive` has neither grid nor steps. `grid`: the times between them.
    `steps`: of the grid. `guidance`: the weight, 1 is the conditional model as it is; or the fields
    `weight`, `ramp`, `interval`, `reference`, `rule`, `threshold` (`builder/guidance.py`).
    `corrector`: rows between the steps. `noise`: independent, or brownian, of one path per sample.
    `ema`: which average of the parameters, a name or a length; read with them.
    """
    known(spec, PLANNED, place)
    checked(spec.get("ema", ""), str | float, f"{place}.ema")
    spec = {**SAMPLING, **spec}
    guided = Section(spec["guidance"], sde, form, f"{place}.guidance", per_sample)
    fields(spec.get("sampler", {}), f"{place}.sampler")
    if spec.get("sampler", {}).get("name") == "adaptive":
        return _adaptive(spec, guided, place)
    table = construct_table(spec, sde, place)
    if table.learned and not learned:
        raise ConfigError(
            f"{place}.sampler.name={spec['sampler']['name']!r}: the network has no second output "
            f"(config.network.learn_variance); allowed: the other samplers"
        )
    if table.leads and not leads:
        raise ConfigError(
            f"{place}.sampler.name={spec['sampler']['name']!r}: leads to a second time, which the "
            f"network does not take (config.network.conditions.to); allowed: the other samplers"
        )
    guided = dataclasses.replace(guided, leads=table.leads)
    weight, ramp = guided.weight(len(table)), guided.ramp(table.t)
    table = dataclasses.replace(table, weight=ramps.weights(weight, ramp))
    return Plan(table, guided.guidance(), ramp)


def abilities(network: Config) -> dict[str, bool]:
    """What a sampler may ask of the network of a section `network`: see `plan`."""
    return {"learned": bool(network.get("learn_variance", False)), "leads": takes_to(network)}


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


def _adaptive(spec: Config, guided: Section, place: str) -> Sampling:
    if "corrector" in spec:
        raise ConfigError(f"{place}.corrector: the sampler adaptive has no rows for it")
    from diffjax.samplers.adaptive import adaptive  # diffrax takes half a second to import

    bound = {"sde": guided.sde, "weight": guided.constant_weight(), "guidance": guided.guidance()}
    settings = {k: v for k, v in spec["sampler"].items() if k != "name"}
    return call(adaptive, settings, f"{place}.sampler", **bound)


def listing() -> str:
    """All that --sampler, --grid and so on take, with settings; order and passes of samplers."""
    from diffjax.samplers.adaptive import adaptive

    lines = ["samplers (order; rows per step; settings)"]
    for name, entry in SAMPLERS.items():
        lines += _described(name, entry.plan, f"{entry.order()}  {entry.passes}")
    lines += _described("adaptive", adaptive, "-  -")
    for title, table in (
        ("correctors", CORRECTORS),
        ("grids", GRIDS),
        ("references of guidance", REFERENCES),
        ("rules of guidance", RULES),
        ("thresholds", THRESHOLDS),
        ("ramps of the guidance weight", RAMPS),
        ("features that metrics of samples compare", EXTRACTORS),
        ("metrics of samples", OF_SAMPLES),
        ("metrics of the network on images", OF_NETWORK),
    ):
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
    name, place = spec["sampler"]["name"], "config.sampling.sampler"
    return instance(lookup(SAMPLERS, name, f"{place}.name"), Sampler, place).order(**settings)
