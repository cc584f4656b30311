"""Construction of an object from a name and settings; errors state the place in the config."""

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
    """Call the catalogue entry that `spec` names with its arguments, or bind them.

    spec: `{"name": entry, argument: value, ...}`, or the text `name:argument=value,...`. partial,
    more: see `call`. Raises ConfigError for an unknown name and for bad arguments.

    >>> from diffjax.schedules import Linear
    >>> from diffjax.sde import SDES
    >>> construct(SDES, "ve", "config.sde", schedule=Linear(), t_min=0.01)
    VE(schedule=Linear(beta_min=0.1, beta_max=20.0), t_min=0.01, t_max=1.0)
    >>> construct(SDES, "vee", "config.sde", schedule=Linear())
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: config.sde.name='vee': ...
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    fields(spec, place)
    if "name" not in spec:
        raise ConfigError(f"{place}.name: missing; known: {', '.join(sorted(table))}")
    entry = lookup(table, spec["name"], f"{place}.name")
    arguments = {k: v for k, v in spec.items() if k != "name"}
    return call(entry, arguments, place, partial, **more)


def fields(section: Any, place: str) -> None:
    """Raise ConfigError for a section that is not a mapping."""
    if not isinstance(section, Mapping):
        raise ConfigError(f"{place}={section!r}: needs fields, such as {place}.name")


def call(
    function: Callable[..., Any],
    arguments: Config,
    place: str,
    partial: bool = False,
    **more: Any,
) -> Any:
    """Return `function(**arguments, **more)`, with names and types checked against its signature.

    partial: bind the arguments without calling; parameters without a default are left to the later
    call. Raises ConfigError for unknown names, missing arguments, wrong types and values that are
    infinite or too large, and in place of a ValueError of the function.

    >>> call(pow, {"exp": 2}, "config.loss.error", base=3)
    9
    >>> call(pow, {"exponent": 2}, "config.loss.error", base=3)
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: config.loss.error.exponent: ...
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
    """Return the object that `module:attribute` names, alone or with fields.

    A value of another form, or for a hint with plain texts, is returned unchanged. Objects in the
    fields of objects are thereby restored.
    """
    name = value.get("name") if isinstance(value, Mapping) else value
    texts = any(h is str for h in (hint, *typing.get_args(hint)))
    if texts or not isinstance(name, str) or not re.fullmatch(r"[\w.]+:[\w.]+", name):
        return value
    return lookup({}, name, place) if isinstance(value, str) else construct({}, value, place)


def named_parameters(function: Callable[..., Any], place: str) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be passed by name.

    Raises ConfigError for a function without a signature.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise ConfigError(f"{place}: {error}; needs a Python function or class") from error
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {k: p for k, p in parameters.items() if p.kind in by_name}


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError):  # annotations for type checkers alone, and ufuncs
        return {}


def instance(value: T, needs: type, place: str) -> T:
    """Return the value that an entry returned, if it has the type of its catalogue.

    Raises ConfigError for a value of another type.
    """
    if not isinstance(value, needs):
        raise ConfigError(
            f"{place}: returned {type(value).__name__}; needs {needs.__module__}.{needs.__name__}"
        )
    return value


def refuse(place: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a wrapper that turns errors of a function into a ConfigError at `place`.

    It converts ValueError and OSError, and the TypeError of a user-defined function or class that
    does not take such arguments. place: a place in the config, or a flag.

    >>> refuse("config.seed")(int)("x")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: config.seed: ...
    """

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
    """Return True if the signature accepts these arguments, or if there is no signature."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except ValueError:
        return True
    except TypeError:
        return False
    return True
