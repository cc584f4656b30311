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
from diffjax.nets.adapters import Adapter
from diffjax.nets.control import Control
from diffjax.specs import Spec
from diffjax.training.experiment import Experiment

SECTION = "adapter"
PLACE = f"config.{SECTION}"
BASE = f"^(?!network/{SECTION}/|loss/)"
"""Matches the parameters that a run with an adapter does not train: those of its base."""


def sections(config: Config) -> dict[str, Config]:
    """Return the adapters of a config by their place in it; several controls have names.

    >>> sections({"adapter": {"edges": {"name": "control_net", "condition": "edges"}}}).keys()
    dict_keys(['config.adapter.edges'])
    """
    section = config.get(SECTION, {})
    if not section or not isinstance(section.get("name", {}), Mapping):
        return {PLACE: section} if section else {}
    for name, each in section.items():
        fields(each, f"{PLACE}.{name}")
    return {f"{PLACE}.{name}": each for name, each in section.items()}


def controlled_by(config: Config) -> dict[str, str]:
    """Return the places of the controls of a config, by the names of their conditions.

    >>> controlled_by({"adapter": {"name": "control_net", "condition": "edges"}})
    {'edges': 'config.adapter'}
    >>> controlled_by({"adapter": {"name": "lora", "where": "Block"}})
    {}
    """
    places = {}
    for place, section in sections(config).items():
        entry = lookup(ADAPTERS | CONTROLS, section.get("name"), f"{place}.name")
        if "condition" in named_parameters(entry, place):
            places[checked(section.get("condition"), str, f"{place}.condition")] = place
    return places


def adapted_by(config: Config, network: Network, specs: Sequence[Spec]) -> Network:
    """Return the network with the adapter or the controls of the config, or unchanged without any.

    specs: the conditions of the data. Raises ConfigError for a control of another condition than
    these, and for several adapters that are not controls.
    """
    places, chosen = controlled_by(config), sections(config)
    if len(chosen) != len(places) and len(chosen) > 1:
        raise ConfigError(f"{PLACE}: has {len(chosen)} adapters; only controls may be several")
    if not places:
        for place, section in chosen.items():
            network = adapted(
                network, instance(construct(ADAPTERS, section, place), Adapter, place)
            )
        return network
    of_data, controls = {spec.name: spec for spec in specs}, []
    for name, place in places.items():
        if name not in of_data:
            raise ConfigError(
                f"{place}.condition={name!r}: the data have no such condition; known: "
                f"{', '.join(of_data) or 'none'}; config.data.maps makes some of images"
            )
        section = {k: v for k, v in chosen[place].items() if k != "size"}
        control = construct(CONTROLS, section, place, size=of_data[name].size)
        if instance(control, Control, place).spec != of_data[name]:
            raise ConfigError(
                f"{place}: {section['name']} reads a {control.kind}; {name} is a "
                f"{of_data[name].kind}"
            )
        controls.append(control)
    return refuse(PLACE)(controlled)(network, controls)


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
        refuse(PLACE)(network.adapter.chosen)(params, network.stacks)


def of_base(built: Experiment) -> Experiment:
    """Return the run without its adapter or controls."""
    network: Any = built.model.network
    own = {each.condition for each in getattr(network, "controls", ())}
    kept = tuple(spec for spec in built.form.conditions if spec.name not in own)
    model = dataclasses.replace(built.model, network=network.base)
    return dataclasses.replace(
        built, model=model, form=dataclasses.replace(built.form, conditions=kept)
    )
