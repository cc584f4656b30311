"""Construction of a network from config.network, for data with given conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffjax.builder.construct import (
    call,
    construct,
    fields,
    instance,
    lookup,
    named_parameters,
)
from diffjax.config import Config, ConfigError, checked, known
from diffjax.nets import AUTOENCODERS, NETWORKS, Network
from diffjax.nets.conditions import CONDITIONS, Condition
from diffjax.specs import Spec


def construct_network(spec: Config, specs: Sequence[Spec], place: str) -> Network:
    """Construct the network that `spec` names, for data with the conditions `specs`."""
    settings = {k: v for k, v in spec.items() if k != "conditions"}
    entries = construct_conditions(spec.get("conditions", {}), specs, f"{place}.conditions")
    table = NETWORKS | AUTOENCODERS
    entry = lookup(table, spec.get("name"), f"{place}.name")
    takes = "conditions" in named_parameters(entry, f"{place}.name")
    if entries and not takes:
        names = ", ".join(e.name for e in entries)
        raise ConfigError(f"{place}: {spec['name']} takes no conditions, but the data have {names}")
    more: dict[str, Any] = {"conditions": entries} if takes else {}
    return instance(construct(table, settings, place, **more), Network, place)


def construct_conditions(spec: Config, specs: Sequence[Spec], place: str) -> tuple[Condition, ...]:
    """Construct the conditions of a network: those of the data, and those that only it declares.

    spec: the settings of each condition by name, such as `{"caption": {"mechanism": "cross"}}`.
    Settings with a `size` declare a condition that the data may lack, such as `{"to": {"size": 1}}`
    or `{"text": {"kind": "tokens", "size": 768}}`; its kind is its name unless `kind` states
    another one. A user-defined kind, `module:Class`, reads values of any kind that the data have.
    Raises ConfigError for settings of a condition that nothing declares, and for a size or kind
    that contradicts the data.
    """
    fields(spec, place)
    declared = {s.name: s for s in specs}
    for name, settings in spec.items():
        fields(settings, f"{place}.{name}")
        if name not in declared and "size" not in settings:
            known([name], declared, place)
        declared[name] = _declared(name, settings, declared.get(name), f"{place}.{name}")
    return tuple(
        _condition(s, spec.get(s.name, {}), f"{place}.{s.name}") for s in declared.values()
    )


def _declared(name: str, settings: Config, of_data: Spec | None, place: str) -> Spec:
    """Return the spec of a condition, from the data or from its settings, which must agree."""
    kind = settings.get("kind", of_data.kind if of_data else name)
    lookup(CONDITIONS, kind, f"{place}.kind")
    size = checked(settings.get("size", of_data and of_data.size), int, f"{place}.size")
    if size < 1:
        raise ConfigError(f"{place}.size={size}: needs size >= 1")
    reads = of_data.kind if of_data and kind not in CONDITIONS else kind
    if of_data and of_data != Spec(name, reads, size):
        raise ConfigError(
            f"{place}: kind={kind!r}, size={size}, but the data have "
            f"kind={of_data.kind!r}, size={of_data.size}"
        )
    return Spec(name, kind, size)


def _condition(spec: Spec, settings: Config, place: str) -> Condition:
    settings = {k: v for k, v in settings.items() if k not in ("size", "kind")}
    entry = lookup(CONDITIONS, spec.kind, f"{place}.kind")
    return instance(call(entry, settings, place, size=spec.size, name=spec.name), Condition, place)


def droppable(config: Config, specs: Sequence[Spec]) -> tuple[str, ...]:
    """Return the names of the conditions of the data that training may drop.

    Dropping conditions prepares classifier-free guidance. config: config.network, which states how
    conditions enter. specs: the conditions of the data.
    """
    entries = construct_conditions(config.get("conditions", {}), specs, "config.network.conditions")
    return tuple(e.name for e in entries if e.droppable and e.name in {s.name for s in specs})
