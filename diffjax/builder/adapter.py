"""Construction of an adapter from config.adapter, a section that a config may lack."""

from __future__ import annotations

import dataclasses

import jax

from diffjax.builder.construct import construct, instance, refuse
from diffjax.config import Config
from diffjax.nets import ADAPTERS, Adapted, Network, adapted
from diffjax.nets.adapters import Adapter
from diffjax.training.experiment import Experiment

SECTION = "adapter"
PLACE = f"config.{SECTION}"
BASE = f"^(?!network/{SECTION}/|loss/)"
"""Matches the parameters that a run with an adapter does not train: those of its base."""


def adapted_by(config: Config, network: Network) -> Network:
    """Return the network with the adapter of the config, or unchanged without one."""
    if SECTION not in config:
        return network
    adapter = instance(construct(ADAPTERS, config[SECTION], PLACE), Adapter, PLACE)
    return adapted(network, adapter)


def fixed_by(config: Config) -> tuple[str, ...]:
    """Return patterns of the parameters that are fixed because the config has an adapter."""
    return (BASE,) if SECTION in config else ()


def check_adapter(built: Experiment) -> None:
    """Raise ConfigError for an adapter that does not suit the kernels of its network."""
    network = built.model.network
    if not isinstance(network, Adapted):
        return
    bare = dataclasses.replace(built, model=dataclasses.replace(built.model, network=network.base))
    params = refuse("config.network")(jax.eval_shape)(bare.parameters)["network"]
    refuse(PLACE)(network.adapter.chosen)(params, network.stacks)
