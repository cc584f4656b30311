"""Completion of a config with all defaults, so that it keeps its meaning in other versions.

A run stores its config in this form, so that a later change of a default does not change an old
run. Two configs are compared in this form, so that a field that is new in one of them is no
difference.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from diffjax.builder.construct import lookup
from diffjax.builder.data import CHANGES
from diffjax.builder.training import OBJECTIVE
from diffjax.config import Config, ConfigError, arguments, parse
from diffjax.data import AUGMENTATIONS, SOURCES, Reading
from diffjax.nets import ADAPTERS, AUTOENCODERS, CONTROLS, NETWORKS
from diffjax.objectives import OBJECTIVES
from diffjax.parameterization import NOISE_LABELS, PARAMETERIZATIONS
from diffjax.schedules import DERIVED, SCHEDULES
from diffjax.sde import SDES
from diffjax.training.ema import EMAS
from diffjax.training.experiment import Train
from diffjax.training.optimizer import OPTIMIZERS, RATES, optimizer

Catalogue = Mapping[str, Any]


def completed(config: Config) -> dict[str, Any]:
    """Return the config with all defaults filled in, except in `sampling`, which no step reads.

    A section that this version cannot read is unchanged.

    >>> completed({"ema": {"name": "constant"}, "train": {}})["ema"]
    {'name': 'constant', 'decay': 0.9999}
    """
    whole = dict(config)
    for section, fill in FILLED.items():
        try:
            whole[section] = fill(config[section])
        except (ConfigError, KeyError, TypeError, ValueError):
            continue
    return whole


def _entry(table: Catalogue, spec: Any, *left_out: str) -> dict[str, Any]:
    """Return an entry with the defaults of its settings, except for those that are left out."""
    spec = {"name": spec} if isinstance(spec, str) else dict(spec)
    settings = _defaults(lookup(table, spec["name"], "name"))
    return {"name": spec["name"]} | {k: v for k, v in settings.items() if k not in left_out} | spec


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults that are plain data, which a config can contain."""
    parameters = inspect.signature(getattr(function, "plan", function)).parameters
    return {k: p.default for k, p in parameters.items() if _plain(p.default)}


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _data(spec: Config) -> dict[str, Any]:
    declared = [f.name for f in dataclasses.fields(Reading) if f.metadata.get("declared")]
    reading = {k: v for k, v in _defaults(Reading).items() if k not in declared}
    name, colon, _ = str(spec["name"]).partition(":")
    source = lookup(SOURCES, name, "name")
    hints = [k for k in typing.get_type_hints(source) if k not in ("split", "return")]
    settings = {k: v for k, v in _defaults(source).items() if not colon or k != hints[0]}
    whole = {"name": spec["name"]} | settings | reading | dict(spec)
    if augment := whole["augment"]:
        augment = parse(augment) if isinstance(augment, str) else augment
        whole["augment"] = _entry(AUGMENTATIONS, augment)
    for setting, kind in CHANGES.items():
        if spec := whole[setting]:
            given = arguments(spec, setting) if isinstance(spec, str) else dict(spec)
            whole[setting] = _defaults(kind) | given
    return whole


def _sde(spec: Config) -> dict[str, Any]:
    whole = _entry(SDES, spec, "schedule")
    return whole | {"schedule": _schedule(spec["schedule"])}


def _schedule(spec: Any) -> dict[str, Any]:
    whole = _entry(SCHEDULES | DERIVED, spec)
    return whole | ({"schedule": _schedule(whole["schedule"])} if "schedule" in whole else {})


def _parameterization(spec: Config) -> dict[str, Any]:
    entry = lookup(PARAMETERIZATIONS, spec["name"], "name")
    label = inspect.signature(entry).parameters["c_noise"].default
    return {"name": spec["name"], "c_noise": _name(NOISE_LABELS, label)} | _entry(
        PARAMETERIZATIONS, spec
    )


def _network(spec: Config) -> dict[str, Any]:
    conditions = {"conditions": spec.get("conditions", {})}
    return _entry(NETWORKS | AUTOENCODERS, spec, "conditions") | conditions


def _adapter(spec: Config) -> dict[str, Any]:
    if "name" in spec:
        return _entry(ADAPTERS | CONTROLS, spec)
    return {name: _entry(ADAPTERS | CONTROLS, part) for name, part in spec.items()}


def _loss(spec: Config) -> dict[str, Any]:
    whole = {"name": OBJECTIVE} | dict(spec)
    entry = lookup(OBJECTIVES, whole["name"], "name")
    parameters = inspect.signature(entry).parameters
    for field, part in entry.parts.items():
        default = parameters[field].default
        if field in whole:
            whole[field] = _entry(part.catalogue, whole[field])
        elif part.partial:
            whole[field] = _entry(part.catalogue, _name(part.catalogue, default))
        elif default is not inspect.Parameter.empty:
            settings = {k: v for k, v in vars(default).items() if _plain(v)}
            whole[field] = {"name": _name(part.catalogue, type(default))} | settings
    return {"name": whole["name"]} | _defaults(entry) | whole


def _optimizer(spec: Config) -> dict[str, Any]:
    around = {k: v for k, v in _defaults(optimizer).items() if k != "batch_size"}
    whole = _entry(OPTIMIZERS, spec)
    whole = {"name": spec["name"], "frozen": (), "schedule": "constant"} | around | whole
    return whole | {"schedule": _entry(RATES, whole["schedule"])}


def _ema(spec: Config) -> dict[str, Any]:
    if not isinstance(spec.get("name", {}), Mapping):
        return _entry(EMAS, spec)
    return {name: _entry(EMAS, each) for name, each in spec.items()}


def _train(spec: Config) -> dict[str, Any]:
    return _defaults(Train) | dict(spec)


def _name(table: Catalogue, entry: Any) -> str:
    return next(name for name, known in table.items() if known is entry)


FILLED: dict[str, Callable[[Config], dict[str, Any]]] = {
    "data": _data,
    "sde": _sde,
    "parameterization": _parameterization,
    "network": _network,
    "adapter": _adapter,
    "loss": _loss,
    "optimizer": _optimizer,
    "ema": _ema,
    "train": _train,
}
"""The function that completes each section."""
