"""Config to objects: the only place that looks up a name.

A config is plain data. Each noun is `{"name": entry of its catalogue, argument: value, ...}`;
arguments that are not given keep the entry's defaults. Whatever cannot work raises `ConfigError`:
one line with the place in the config, the bad value and the allowed ones.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from diffjax.config import Config, ConfigError, checked, known, literal, nearest
from diffjax.data import SOURCES, Reading, Source
from diffjax.denoiser import Model
from diffjax.draws import DRAWS
from diffjax.grids import GRIDS
from diffjax.guidance import GUIDANCES, Guidance
from diffjax.losses import ERRORS, Denoising
from diffjax.nets import NETWORKS
from diffjax.parameterization import NOISE_LABELS, PARAMETERIZATIONS
from diffjax.samplers import CORRECTORS, SAMPLERS, Table
from diffjax.samplers.generate import How, Plan
from diffjax.schedules import DERIVED, SCHEDULES, Schedule
from diffjax.sde import SDE, SDES, levels
from diffjax.training.ema import EMAS
from diffjax.training.experiment import Experiment, Form, Train, describe
from diffjax.training.optimizer import OPTIMIZERS
from diffjax.weights import WEIGHTS

SECTIONS = (
    "seed",
    "data",
    "sde",
    "parameterization",
    "network",
    "loss",
    "optimizer",
    "ema",
    "sampling",
    "train",
)
CONTINUOUS = ("vector", "tokens", "map", "augment")
"""Conditions whose width is a setting of the network by the same name."""
SAMPLING = {"grid": {"name": "uniform"}, "steps": 50, "guidance": 1.0, "noise": "independent"}
"""What config.sampling need not say."""
PLANNED = (*SAMPLING, "sampler", "corrector", "interval")
NOISES = {"independent": lambda table: table, "brownian": Table.brownian}
"""Noise of its own for each row, or that of one path per sample: more steps refine the sample."""


def experiment(config: Config, form: Form | None = None) -> Experiment:
    """All objects of a run. Raises ConfigError before anything is compiled or decoded.

    form: that of the data; without it the data set is opened.
    """
    known(config, SECTIONS, "config")
    if missing := [s for s in SECTIONS if s not in config]:
        raise ConfigError(f"config.{missing[0]}: missing; needed: {', '.join(SECTIONS)}")
    for section in SECTIONS[1:]:
        fields(config[section], f"config.{section}")
    seed = checked(config["seed"], int, "config.seed")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"config.seed={seed}: needs 0 <= seed < 2**32")
    source, reading = construct_data(config["data"], "config.data")
    form = form or describe(source("train"), reading)
    model = construct_model(config, form.classes)
    sampling = functools.partial(
        plan,
        config["sampling"],
        conditional=bool(form.classes),
        learned=bool(config["network"].get("learn_variance", False)),
    )
    sampling(model.sde)  # what cannot be sampled is refused now
    built = Experiment(
        config=dict(config),
        source=source,
        reading=reading,
        model=model,
        loss=construct_loss(config, model, form),
        optimizer=construct(OPTIMIZERS, config["optimizer"], "config.optimizer"),
        decay=construct(EMAS, config["ema"], "config.ema"),
        train=call(Train, config["train"], "config.train"),
        plan=sampling,
        seed=seed,
        form=form,
    )
    refuse("config.network")(jax.eval_shape)(built.initialise)
    return built


def construct_data(spec: Config, place: str) -> tuple[Callable[[str], Source], Reading]:
    """`split -> Source`, opened once each, and how to read it.

    What follows a colon in the name is the first setting of the source: `folder:PATH`.
    """
    own = [f.name for f in dataclasses.fields(Reading)]
    reading = call(Reading, {k: v for k, v in spec.items() if k in own}, place)
    rest = {k: v for k, v in spec.items() if k not in own}
    name, colon, first = str(rest.get("name", "")).partition(":")
    if colon:
        hints = typing.get_type_hints(lookup(SOURCES, name, f"{place}.name"))
        settings = [k for k in hints if k not in ("split", "return")]
        if not settings:
            raise ConfigError(f"{place}.name={rest['name']!r}: {name} takes no {first!r}")
        value = first if hints[settings[0]] is str else literal(first)
        rest = {settings[0]: value} | rest | {"name": name}
    bound = refuse(place)(construct(SOURCES, rest, place, partial=True))

    @functools.cache
    def source(split: str) -> Source:
        opened = bound(split)
        refuse(place)(reading.check)(opened)
        return opened

    return source, reading


def construct_model(config: Config, classes: int) -> Model:
    """Process, parameterization and network, refused together where they do not go together."""
    sde = construct_sde(config["sde"], "config.sde")
    network = construct(NETWORKS, config["network"], "config.network", classes=classes)
    spec = dict(config["parameterization"])
    if "c_noise" in spec:
        place = "config.parameterization.c_noise"
        spec["c_noise"] = lookup(NOISE_LABELS, spec["c_noise"], place)
    parameterization = construct(PARAMETERIZATIONS, spec, "config.parameterization")
    with_place = refuse("config.parameterization")
    return with_place(Model)(sde, parameterization, network)


def construct_sde(spec: Config, place: str) -> SDE:
    spec = dict(spec)
    schedule = construct_schedule(spec.pop("schedule", {}), f"{place}.schedule")
    return construct(SDES, spec, place, schedule=schedule)


def construct_schedule(spec: Any, place: str) -> Schedule:
    """A schedule, or one made of the schedule in the field `schedule`; a name may stand for one."""
    spec = {"name": spec} if isinstance(spec, str) else spec
    fields(spec, place)
    table, spec, inner = SCHEDULES | DERIVED, dict(spec), {}
    entry = lookup(table, spec["name"], f"{place}.name") if "name" in spec else None
    if entry and "schedule" in inspect.signature(entry).parameters:
        inner["schedule"] = construct_schedule(spec.pop("schedule", {}), f"{place}.schedule")
    return construct(table, spec, place, **inner)


def construct_loss(config: Config, model: Model, form: Form) -> Denoising:
    """The loss, refused where it does not go with the model or the data.

    An entry may stand as its name.
    """
    place, rest, given = "config.loss", dict(config["loss"]), {}
    known(rest, inspect.signature(Denoising).parameters, place)
    for name, table, partial in (
        ("weight", WEIGHTS, True),
        ("error", ERRORS, True),
        ("draw", DRAWS, False),
    ):
        if name in rest:
            entry = rest.pop(name)
            entry = {"name": entry} if isinstance(entry, str) else entry
            given[name] = construct(table, entry, f"{place}.{name}", partial=partial)
    loss = call(Denoising, rest, place, **given)
    if isinstance(loss.condition_dropout, tuple):
        told = {"label": form.classes} | {k: config["network"].get(k) for k in CONTINUOUS}
        have = [name for name, size in told.items() if size]
        known(dict(loss.condition_dropout), have, f"{place}.condition_dropout")
    refuse(place)(loss.check)(model)
    two = config["network"].get("learn_variance", False)
    if bool(loss.hybrid) != bool(two):
        raise ConfigError(
            f"{place}.hybrid={loss.hybrid:g}: trains the second output of a network, and "
            f"config.network.learn_variance={two}; allowed: both, or neither"
        )
    if loss.bound and len(form.shape) < 2:
        raise ConfigError(f"{place}.bound=True: needs images, and the data are {form.shape}")
    return loss


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
    grid = construct(GRIDS, spec["grid"], f"{place}.grid", partial=True)
    sampler = construct(SAMPLERS, spec.get("sampler", {}), f"{place}.sampler", partial=True)
    times = refuse(f"{place}.grid")(grid)(sde, steps)
    table = refuse(f"{place}.sampler")(sampler)(sde, times)
    if "corrector" in spec:
        corrector = construct(CORRECTORS, spec["corrector"], f"{place}.corrector", partial=True)
        table = refuse(f"{place}.corrector")(corrector)(sde, table)
    noise = lookup(NOISES, spec["noise"], f"{place}.noise")
    return refuse(f"{place}.noise")(noise)(table)


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


def construct(
    table: Mapping[str, Any], spec: Any, place: str, partial: bool = False, **given: Any
) -> Any:
    """Call the catalogue entry that `spec` names with its arguments, or prepare the call."""
    fields(spec, place)
    if "name" not in spec:
        raise ConfigError(f"{place}.name: missing; known: {', '.join(sorted(table))}")
    entry = lookup(table, spec["name"], f"{place}.name")
    arguments = {k: v for k, v in spec.items() if k != "name"}
    return call(entry, arguments, place, partial, **given)


def fields(section: Any, place: str) -> None:
    """Refuse a section that is no mapping."""
    if not isinstance(section, Mapping):
        raise ConfigError(f"{place}={section!r}: needs fields, as in {place}.name")


def lookup(table: Mapping[str, Any], name: Any, place: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ConfigError(f"{place}={name!r}: unknown{nearest(name, table)}")
    return table[name]


def call(
    function: Callable[..., Any],
    arguments: Config,
    place: str,
    partial: bool = False,
    **given: Any,
) -> Any:
    """`function(**arguments, **given)` after names and types are checked against its signature."""
    target = getattr(function, "plan", function)
    parameters = inspect.signature(target).parameters
    settable = {k: p for k, p in parameters.items() if k not in given and p.default is not p.empty}
    known(arguments, settable, place)
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    values = {k: checked(v, hints.get(k, Any), f"{place}.{k}") for k, v in arguments.items()}
    given = values | given
    bound = Applied(function, tuple(sorted(given.items()))) if given else function
    return bound if partial else refuse(place)(bound)()


@dataclasses.dataclass(frozen=True)
class Applied:
    """A function with some of its arguments: equal where both are."""

    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args, **dict(self.arguments))


def refuse(place: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn a ValueError of the wrapped call into a ConfigError at `place`."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except ConfigError:
                raise
            except ValueError as error:
                raise ConfigError(f"{place}: {error}") from error

        return run

    return wrap
