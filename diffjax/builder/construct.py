"""Names and settings to objects, each refused with its place in the config."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

from diffjax.config import Config, ConfigError, checked, known, nearest


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
    for name, value in values.items():
        infinite = isinstance(value, float) and not math.isfinite(value)
        if infinite and value != settable[name].default:
            raise ConfigError(f"{place}.{name}={value}: needs a finite number")
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
