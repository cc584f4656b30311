"""Construction of an adapter from config.adapter, a section that a config may lack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from diffjax.builder.construct import construct, instance, refuse
from diffjax.config import Config
from diffjax.nets import ADAPTERS, Adapted, Network, adapted
from diffjax.nets.adapted import Adapter, Several
from diffjax.training.experiment import Experiment

SECTION = "adapter"
PLACE = f"config.{SECTION}"
BASE = f"^(?!network/{SECTION}/|loss/)"
"""Matches the parameters that a run with an adapter does not train: those of its base."""


def adapted_by(config: Config, network: Network) -> Network:
    """Return the network with the adapter of the config, or unchanged without one."""
    if SECTION not in config:
        return network
    return adapted(network, construct_adapter(config[SECTION]))


def construct_adapter(spec: Config) -> Adapter:
    """Return the adapter of a section, which has a `name`, or named sections of several adapters.

    >>> construct_adapter({"style": {"name": "lora", "where": "blocks"}, "word": {"name": "rows",
    ...     "where": "words"}}).parts[1]
    Rows(where='words', rows=(-1,), like=None)
    """
    if "name" in spec or not all(isinstance(part, Mapping) for part in spec.values()):
        return instance(construct(ADAPTERS, spec, PLACE), Adapter, PLACE)
    built = {k: construct(ADAPTERS, part, f"{PLACE}.{k}") for k, part in sorted(spec.items())}
    parts = tuple(instance(part, Adapter, f"{PLACE}.{k}") for k, part in built.items())
    return Several(adapters=parts)


def fixed_by(config: Config) -> tuple[str, ...]:
    """Return patterns of the parameters that are fixed because the config has an adapter."""
    return (BASE,) if SECTION in config else ()


def check_adapter(built: Experiment) -> None:
    """Raise ConfigError for an adapter that does not suit the parameters of its network."""
    network = built.model.network
    if not isinstance(network, Adapted):
        return
    bare = dataclasses.replace(built, model=dataclasses.replace(built.model, network=network.base))
    params = refuse("config.network")(jax.eval_shape)(bare.parameters)["network"]
    refuse(PLACE)(network.adapter.check)(params, network.stacks)
