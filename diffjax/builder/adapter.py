"""Construction of an adapter from config.adapter, a section that a config may lack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from diffjax.builder.construct import (
    construct,
    fields,
    instance,
    lookup,
    named_parameters,
    refuse,
)
from diffjax.config import Config, ConfigError, checked
from diffjax.nets import ADAPTERS, CONTROLS, Adapted, Controlled, Network, adapted, controlled
from diffjax.nets.adapted import Adapter, Several
from diffjax.nets.control import Control
from diffjax.specs import Spec
from diffjax.training.experiment import Experiment

SECTION = "adapter"
PLACE = f"config.{SECTION}"
BASE = f"^(?!network/{SECTION}/|loss/)"
"""Matches the parameters that a run with an adapter does not train: those of its base."""


def sections(config: Config) -> dict[str, Config]:
    """Return the adapters or the controls of a config by their place in it; several have names.

    >>> sections({"adapter": {"edges": {"name": "control_net", "condition": "edges"}}}).keys()
    dict_keys(['config.adapter.edges'])
    """
    if SECTION not in config:
        return {}
    section = config[SECTION]
    fields(section, PLACE)
    if "name" in section or not all(isinstance(each, Mapping) for each in section.values()):
        return {PLACE: section}
    return {f"{PLACE}.{name}": each for name, each in sorted(section.items())}


def controlled_by(config: Config) -> dict[str, str]:
    """Return the places of the controls of a config, by the names of their conditions.

    Raises ConfigError for two controls of one condition.

    >>> controlled_by({"adapter": {"name": "control_net", "condition": "edges"}})
    {'edges': 'config.adapter'}
    >>> controlled_by({"adapter": {"name": "lora", "where": "Block"}})
    {}
    """
    places: dict[str, str] = {}
    for place, section in sections(config).items():
        entry = lookup(ADAPTERS | CONTROLS, section.get("name"), f"{place}.name")
        if "condition" in named_parameters(entry, place):
            name = checked(section.get("condition"), str, f"{place}.condition")
            if name in places:
                raise ConfigError(f"{place}.condition={name!r}: {places[name]} reads it too")
            places[name] = place
    return places


def adapted_by(config: Config, network: Network, specs: Sequence[Spec]) -> Network:
    """Return the network with the adapters or the controls of the config, or unchanged without any.

    specs: the conditions of the data. Raises ConfigError for a control of another condition than
    these, and for adapters and controls in one config.
    """
    places, chosen = controlled_by(config), sections(config)
    if others := [place for place in chosen if places and place not in places.values()]:
        raise ConfigError(
            f"{others[0]}: is no control, and {next(iter(places.values()))} is one; allowed: "
            f"adapters alone, or controls alone"
        )
    if places:
        controls = [construct_control(chosen[places[k]], places[k], specs) for k in places]
        return refuse(PLACE)(controlled)(network, controls)
    return adapted(network, construct_adapter(chosen)) if chosen else network


def construct_adapter(chosen: Mapping[str, Config]) -> Adapter:
    """Return the adapter that sections by their places describe, which may consist of several.

    >>> construct_adapter({"config.adapter": {"name": "rows", "where": "words"}})
    Rows(where='words', rows=(-1,), like=None)
    """
    built = {place: construct(ADAPTERS, section, place) for place, section in chosen.items()}
    parts = tuple(instance(part, Adapter, place) for place, part in built.items())
    return parts[0] if PLACE in chosen else Several(adapters=parts)


def construct_control(section: Config, place: str, specs: Sequence[Spec]) -> Control:
    """Return the control of a section for data with these conditions.

    >>> section, edges = {"name": "control_net", "condition": "edges"}, Spec("edges", "map", 1)
    >>> construct_control(section, "config.adapter", [edges]).size
    1
    """
    of_data, name = {spec.name: spec for spec in specs}, section["condition"]
    if name not in of_data:
        raise ConfigError(
            f"{place}.condition={name!r}: the data have no such condition; known: "
            f"{', '.join(of_data) or 'none'}; config.data.maps makes some of images"
        )
    settings = {k: v for k, v in section.items() if k != "size"}
    control = construct(CONTROLS, settings, place, size=of_data[name].size)
    if instance(control, Control, place).spec != of_data[name]:
        raise ConfigError(
            f"{place}: {section['name']} reads a {control.kind}; {name} is a {of_data[name].kind}"
        )
    return control


def fixed_by(config: Config) -> tuple[str, ...]:
    """Return patterns of the parameters that are fixed because the config has an adapter."""
    return (BASE,) if SECTION in config else ()


def check_adapter(built: Experiment) -> None:
    """Raise ConfigError for an adapter that does not suit its network."""
    network = built.model.network
    if isinstance(network, Controlled):
        refuse("config.network")(jax.eval_shape)(of_base(built).parameters)
        refuse(PLACE)(jax.eval_shape)(built.parameters)
    if isinstance(network, Adapted):
        params = refuse("config.network")(jax.eval_shape)(of_base(built).parameters)["network"]
        refuse(PLACE)(network.adapter.check)(params, network.stacks)


def of_base(built: Experiment) -> Experiment:
    """Return the run without its adapter or controls."""
    network: Any = built.model.network
    own = {each.condition for each in getattr(network, "controls", ())}
    kept = tuple(spec for spec in built.form.conditions if spec.name not in own)
    model = dataclasses.replace(built.model, network=network.base)
    return dataclasses.replace(
        built, model=model, form=dataclasses.replace(built.form, conditions=kept)
    )
