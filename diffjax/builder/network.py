"""config.network to a network for data with these conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffjax.builder.construct import call, construct, fields, lookup
from diffjax.config import Config, ConfigError, checked, known
from diffjax.nets import NETWORKS, Network
from diffjax.nets.conditions import CONDITIONS, Condition
from diffjax.specs import Spec


def construct_network(spec: Config, specs: Sequence[Spec], place: str) -> Network:
    """The network that `spec` names, for data with the conditions `specs`."""
    settings = {k: v for k, v in spec.items() if k != "conditions"}
    entries = construct_conditions(spec.get("conditions", {}), specs, f"{place}.conditions")
    return construct(NETWORKS, settings, place, conditions=entries)


def construct_conditions(spec: Config, specs: Sequence[Spec], place: str) -> tuple[Condition, ...]:
    """The conditions of a network: those of the data, and those that only the network knows.

    spec: settings of a condition by its name, as `{"caption": {"mechanism": "cross"}}`. One with a
    `size` is declared there: data may lack it, as `{"to": {"size": 1}}` or `{"text": {"kind":
    "tokens", "size": 768}}`; its kind is its name unless `kind` says another. Raises ConfigError
    for settings of a condition that is nowhere, and for a size or kind that the data contradict.
    """
    fields(spec, place)
    declared = {s.name: s for s in specs}
    for name, given in spec.items():
        here = f"{place}.{name}"
        fields(given, here)
        if "size" in given:
            kind = given.get("kind", declared[name].kind if name in declared else name)
            lookup(CONDITIONS, kind, f"{here}.kind")
            size = checked(given["size"], int, f"{here}.size")
            if size < 1:
                raise ConfigError(f"{here}.size={size}: needs size >= 1")
            known_spec = declared.setdefault(name, Spec(name, kind, size))
            if (known_spec.kind, known_spec.size) != (kind, size):
                raise ConfigError(
                    f"{here}: kind={kind!r}, size={size}, and the data have "
                    f"kind={known_spec.kind!r}, size={known_spec.size}"
                )
        elif name not in declared:
            known([name], declared, place)
    return tuple(
        _condition(s, spec.get(s.name, {}), f"{place}.{s.name}") for s in declared.values()
    )


def _condition(spec: Spec, given: Config, place: str) -> Any:
    settings = {k: v for k, v in given.items() if k not in ("size", "kind", "name")}
    entry = lookup(CONDITIONS, spec.kind, f"{place}.kind")
    return call(entry, settings, place, size=spec.size, name=spec.name)


def droppable(specs: Sequence[Spec]) -> tuple[str, ...]:
    """Names of the conditions that may be missing, as in training for classifier-free guidance."""
    return tuple(spec.name for spec in specs if CONDITIONS[spec.kind].droppable)
