"""Names and settings to objects, each refused with its place in the config."""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from diffjax.checks import COUNTS, SEEDS
from diffjax.config import Applied, Config, ConfigError, checked, known, lookup, parse
from diffjax.files import reason

T = TypeVar("T")


def construct(
    table: Mapping[str, Any], spec: Any, place: str, partial: bool = False, **more: Any
) -> Any:
    """Call the catalogue entry that `spec` names with its arguments, or prepare the call.

    spec: `{"name": entry, argument: value, ...}`, which may stand as `name:argument=value,...`.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    fields(spec, place)
    if "name" not in spec:
        raise ConfigError(f"{place}.name: missing; known: {', '.join(sorted(table))}")
    entry = lookup(table, spec["name"], f"{place}.name")
    arguments = {k: v for k, v in spec.items() if k != "name"}
    return call(entry, arguments, place, partial, **more)


def fields(section: Any, place: str) -> None:
    """Refuse a section that is no mapping."""
    if not isinstance(section, Mapping):
        raise ConfigError(f"{place}={section!r}: needs fields, as in {place}.name")


def call(
    function: Callable[..., Any],
    arguments: Config,
    place: str,
    partial: bool = False,
    **more: Any,
) -> Any:
    """`function(**arguments, **given)` after names and types are checked against its signature.

    partial: prepare the call; what has no default is left to those who call.
    """
    target = getattr(function, "plan", function)
    parameters = named_parameters(target, place)
    later = {k for k, p in parameters.items() if partial and p.default is p.empty}
    settable = [k for k in parameters if k not in more and k not in later]
    known(arguments, settable, place)
    needed = {k for k, p in parameters.items() if p.default is p.empty} - later
    if lacking := sorted(needed - {*more, *arguments}):
        raise ConfigError(f"{place}.{lacking[0]}: missing; it has no default")
    hints = _hints(target)
    values = {
        k: _object(checked(v, hints.get(k, Any), f"{place}.{k}"), hints.get(k, Any), f"{place}.{k}")
        for k, v in arguments.items()
    }
    for name, value in values.items():
        infinite = isinstance(value, float) and not math.isfinite(value)
        if infinite and value != parameters[name].default:
            raise ConfigError(f"{place}.{name}={value}: needs a finite number")
        most, hint = SEEDS if name == "seed" else COUNTS, hints.get(name, Any)
        counts = isinstance(value, int) and float not in (hint, *typing.get_args(hint))
        if counts and abs(value) >= most:
            power = most.bit_length() - 1
            raise ConfigError(f"{place}.{name}={value}: needs an integer below 2**{power}")
    more = values | more
    bound = Applied(function, tuple(sorted(more.items()))) if more else function
    return bound if partial else refuse(place)(bound)()


def _object(value: Any, hint: Any, place: str) -> Any:
    """What `module:attribute` stands for, alone or with fields, where the hint is not of plain
    values; other values as they are. So objects in the fields of objects come back."""
    name = value.get("name") if isinstance(value, Mapping) else value
    texts = any(h is str for h in (hint, *typing.get_args(hint)))
    if texts or not isinstance(name, str) or not re.fullmatch(r"[\w.]+:[\w.]+", name):
        return value
    return lookup({}, name, place) if isinstance(value, str) else construct({}, value, place)


def named_parameters(function: Callable[..., Any], place: str) -> dict[str, inspect.Parameter]:
    """Parameters that can be given by name; ConfigError for a function that has no signature."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise ConfigError(f"{place}: {error}; needs a Python function or class") from error
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {k: p for k, p in parameters.items() if p.kind in by_name}


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError):  # what is annotated for checkers alone, and a ufunc
        return {}


def instance(value: T, needs: type, place: str) -> T:
    """The value that an entry returned, where it is of the type that its catalogue is of."""
    if not isinstance(value, needs):
        raise ConfigError(
            f"{place}: returned {type(value).__name__}; needs {needs.__module__}.{needs.__name__}"
        )
    return value


def refuse(place: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn a ValueError or an OSError of the wrapped call into a ConfigError at `place`, and so a
    function or class of one's own that does not take such arguments."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except ConfigError:
                raise
            except ValueError as error:
                raise ConfigError(f"{place}: {error}") from error
            except OSError as error:
                file = f"{error.filename}: " if error.filename else ""
                raise ConfigError(f"{place}: {file}{reason(error)}") from error
            except TypeError as error:
                if takes(function, *args, **kwargs):
                    raise
                kinds = ", ".join(type(a).__name__ for a in args)
                raise ConfigError(
                    f"{place}: {reason(error)}; needs a function of ({kinds})"
                ) from error

        return run

    return wrap


def takes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether the signature has such arguments; True where there is no signature to ask."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except ValueError:
        return True
    except TypeError:
        return False
    return True
