"""Construction of objects from config.loss, config.optimizer, config.ema and config.train."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import optax

from diffjax.builder.construct import (
    call,
    construct,
    instance,
    lookup,
    named_parameters,
    refuse,
)
from diffjax.builder.guidance import takes_to, takes_weight
from diffjax.builder.network import droppable
from diffjax.config import Config, ConfigError, checked, known
from diffjax.data import Reading
from diffjax.data.form import Form
from diffjax.objectives import OBJECTIVES, Objective, Task
from diffjax.training.ema import EMAS, RAW, Average, Power, length
from diffjax.training.experiment import Holding, Train
from diffjax.training.optimizer import OPTIMIZERS, RATES, optimizer

Loader = Callable[[str, str], Holding]
"""(name, path) -> the trained network that an objective holds under that name."""
OBJECTIVE = "denoising"
"""Default entry of OBJECTIVES, where config.loss states no name."""


def construct_loss(
    spec: Config, place: str, load: Loader | None = None
) -> tuple[Objective, dict[str, Holding]]:
    """Construct the objective, and return it with the networks that it loads, by name.

    A setting that is an entry of a catalogue may be written as its name; a setting that loads a
    network is a path. load: loads a network; without it, none is loaded. Raises ConfigError for
    unknown names and bad settings.
    """
    name, settings, built = spec.get("name", OBJECTIVE), dict(spec), {}
    settings.pop("name", None)
    entry = lookup(OBJECTIVES, name, f"{place}.name")
    known(settings, ["name", *named_parameters(entry, place)], place)
    for field, part in getattr(entry, "parts", {}).items():
        if field in settings:
            value = settings.pop(field)
            built[field] = construct(part.catalogue, value, f"{place}.{field}", part.partial)
    holds = {}
    for field in getattr(entry, "loads", ()):
        path = settings.pop(field, None)
        if not isinstance(path, str):
            raise ConfigError(f"{place}.{field}={path!r}: needs the path of a run or of an export")
        if load is not None:
            holds[field] = refuse(f"{place}.{field}={path}")(load)(field, path)
            built[field] = holds[field].denoise.model
    return instance(call(entry, settings, place, **built), Objective, place), holds


def task(
    config: Config,
    form: Form,
    reading: Reading,
    adds_noise: str,
    fields: tuple[str, ...] | None = None,
) -> Task:
    """Return the properties of data, network and sampler that an objective checks.

    adds_noise: the field of config.sampling that adds noise, "" for none. fields: names of all
    conditions of the data, None if unknown.
    """
    changes = {"augment": reading.augment, "dequantize": reading.dequantize}
    return Task(
        form=form,
        dequantized=reading.dequantize,
        conditions=droppable(config["network"], form.conditions),
        second_output=bool(config["network"].get("learn_variance", False)),
        second_time=takes_to(config["network"]),
        takes_weight=takes_weight(config["network"]),
        noisy=adds_noise,
        fields=fields,
        changes=next((f"config.data.{name}" for name, on in changes.items() if on), ""),
    )


def construct_frozen(spec: Config, place: str) -> tuple[str, ...]:
    """Return the regular expressions in the field `frozen`."""
    return checked(spec.get("frozen", ()), tuple[str, ...], f"{place}.frozen")


def construct_optimizer(spec: Config, place: str, batch_size: int) -> optax.GradientTransformation:
    """Construct an entry of OPTIMIZERS with the shared chain around it: rate, clipping, factors.

    The field `schedule` is an entry of RATES, which may be written as its name. The field `frozen`
    concerns the train state: the optimizer never sees frozen parameters.
    """
    around = [k for k in inspect.signature(optimizer).parameters if k not in ("core", "batch_size")]
    shared = {k: v for k, v in spec.items() if k in around}
    fields_of_core = {k: v for k, v in spec.items() if k not in (*around, "frozen")}
    if "name" in fields_of_core:  # so that an unknown field is refused with all known ones
        entry = lookup(OPTIMIZERS, fields_of_core["name"], f"{place}.name")
        settings = [k for k in inspect.signature(entry).parameters if k != "rate"]
        known(fields_of_core, ["name", *settings, *around, "frozen"], place)
    core = construct(OPTIMIZERS, fields_of_core, place, partial=True)
    schedule = construct(RATES, shared.pop("schedule", "constant"), f"{place}.schedule")
    return call(optimizer, shared, place, core=core, schedule=schedule, batch_size=batch_size)


def construct_averages(spec: Config, place: str) -> dict[str, Average]:
    """Construct the averages by name, in alphabetical order; the first one is the default.

    A single entry has the name of its catalogue entry; several have the names of their fields. A
    ConfigDict keeps no other order. Raises ConfigError for no entry, and for a name that is `raw`,
    a number or not an identifier.
    """
    if not spec:
        raise ConfigError(f"{place}: has no entry; known: {', '.join(sorted(EMAS))}")
    if not isinstance(spec.get("name", {}), Mapping):
        return {str(spec["name"]).rpartition(":")[2]: construct(EMAS, spec, place)}
    for name in spec:
        if not name.isidentifier() or name == RAW or length(name) != name:
            raise ConfigError(f"{place}.{name}: needs an identifier, and not {RAW!r} or a number")
    return {name: construct(EMAS, spec[name], f"{place}.{name}") for name in sorted(spec)}


def construct_train(spec: Config, place: str, averages: Mapping[str, Average]) -> Train:
    """Construct the settings of training.

    Raises ConfigError for a bad setting, and for snapshots without a power-function average.
    """
    train = call(Train, spec, place)
    if train.snapshot_every and not widths(averages):
        raise ConfigError(
            f"{place}.snapshot_every={train.snapshot_every}: needs power-function averages; "
            f"allowed: 0, or an entry of config.ema with name='power'"
        )
    return train


def widths(averages: Mapping[str, Average]) -> dict[str, float]:
    """Return the width `std` of each average that is a power function."""
    return {name: average.std for name, average in averages.items() if isinstance(average, Power)}
