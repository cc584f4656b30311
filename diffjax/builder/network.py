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
    for name, settings in spec.items():
        fields(settings, f"{place}.{name}")
        if name not in declared and "size" not in settings:
            known([name], declared, place)
        declared[name] = _declared(name, settings, declared.get(name), f"{place}.{name}")
    return tuple(
        _condition(s, spec.get(s.name, {}), f"{place}.{s.name}") for s in declared.values()
    )


def _declared(name: str, settings: Config, of_data: Spec | None, place: str) -> Spec:
    """The spec of a condition: that of the data, which its settings may repeat, or their own."""
    kind = settings.get("kind", of_data.kind if of_data else name)
    lookup(CONDITIONS, kind, f"{place}.kind")
    size = checked(settings.get("size", of_data and of_data.size), int, f"{place}.size")
    if size < 1:
        raise ConfigError(f"{place}.size={size}: needs size >= 1")
    if of_data and of_data != Spec(name, kind, size):
        raise ConfigError(
            f"{place}: kind={kind!r}, size={size}, and the data have "
            f"kind={of_data.kind!r}, size={of_data.size}"
        )
    return Spec(name, kind, size)


def _condition(spec: Spec, given: Config, place: str) -> Any:
    settings = {k: v for k, v in given.items() if k not in ("size", "kind")}
    entry = lookup(CONDITIONS, spec.kind, f"{place}.kind")
    return call(entry, settings, place, size=spec.size, name=spec.name)


SECOND_TIME = "config.network.conditions={'to': {'size': 1}}"
"""How a network is built for a second time."""


def second_time(spec: Config) -> bool:
    """Whether a network of config.network takes the time where its prediction leads."""
    conditions = spec.get("conditions", {})
    return any(kind == "to" for kind in (c.get("kind", n) for n, c in conditions.items()))


def droppable(specs: Sequence[Spec]) -> tuple[str, ...]:
    """Names of the conditions that may be missing, as in training for classifier-free guidance."""
    return tuple(spec.name for spec in specs if CONDITIONS[spec.kind].droppable)
