"""Conversion between names in a config and Python objects."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import operator
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffjax.config.errors import ConfigError
from diffjax.config.fields import nearest


def lookup(table: Mapping[str, Any], name: Any, place: str, needs: Any = Callable) -> Any:
    """Return an entry of a catalogue, or the user-defined object that `module:attribute` names.

    The module must be in the current folder or on the PYTHONPATH. needs: the required type of the
    object; by default a function or a class. Raises ConfigError for an unknown name, a module that
    cannot be imported, and an object of another type.

    >>> lookup({"pow": pow}, "pow", "config.loss.error")
    <built-in function pow>
    >>> lookup({"pow": pow}, "math:exp", "config.loss.error")
    <built-in function exp>
    """
    if isinstance(name, str) and name in table:
        return table[name]
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise ConfigError(f"{place}={name!r}: unknown{nearest(name, table)}")
    head, _, attribute = name.partition(":")
    if head in table:
        raise ConfigError(
            f"{place}={name!r}: {attribute!r} has no value; the form is {head}:argument=value,..."
        )
    entry = _imported(head, attribute, f"{place}={name!r}", nearest(head, table))
    if not isinstance(entry, needs):
        wanted = "a function or a class" if needs is Callable else f"a {needs.__name__}"
        raise ConfigError(f"{place}={name!r}: is of type {type(entry).__name__}; needs {wanted}")
    return entry


def _imported(name: str, attribute: str, place: str, known: str = "") -> Any:
    if not {"", os.getcwd()} & {*sys.path}:  # `python -m` adds this folder, other starts do not
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            reason = f"no module {error.name!r} in the current folder or on the PYTHONPATH{known}"
        else:
            said = " ".join(str(error).split())
            reason = f"the module cannot be imported: {type(error).__name__}: {said}"
        raise ConfigError(f"{place}: {reason}") from error
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError as error:
        if name == "__main__":
            raise ConfigError(
                f"{place}: was defined in a notebook or script; define it again, or move it to a "
                f"module and pass it from there: diffjax.load(path, network=...)"
            ) from error
        public = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == name]
        raise ConfigError(
            f"{place}: the module has no {attribute!r}{nearest(attribute, public)}"
        ) from error


@dataclass(frozen=True)
class Applied:
    """A function with some bound arguments, which compares equal by both.

    >>> Applied(pow, (("exp", 2),))(3)
    9
    """

    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args, **dict(self.arguments))


def written(value: Any, place: str = "config") -> Any:
    """Return a config with Python objects as plain data, from which they can be constructed again.

    A function or class becomes its name, `module:qualname`. A `functools.partial` of one, and a
    dataclass, become that name with fields. Raises ConfigError for an object without a name by
    which another process could import it, such as a lambda or an array.

    >>> import math
    >>> written({"error": functools.partial(math.isclose, rel_tol=0.1)})
    {'error': {'name': 'math:isclose', 'rel_tol': 0.1}}
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {k: written(v, f"{place}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        items = [written(v, f"{place}[{i}]") for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    fields: dict[str, Any] = {}
    source, entry = value, value
    if isinstance(value, functools.partial) and not value.args:
        entry, fields = value.func, value.keywords
    elif isinstance(value, Applied):
        entry, fields = value.function, dict(value.arguments)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        entry = type(value)
        fields = {
            f.name: getattr(value, f.name)
            for f in dataclasses.fields(value)
            if f.init and not _equal(getattr(value, f.name), f.default)
        }
    module, attribute = (getattr(entry, k, "") for k in ("__module__", "__qualname__"))
    name = f"{module}:{attribute}"
    try:
        importable = _imported(module, attribute, place) is entry and attribute[0] != "_"
    except (ConfigError, ValueError):
        importable = False
    if not importable or "name" in fields:
        what = type(source).__name__ if entry is not source else getattr(entry, "__name__", entry)
        raise ConfigError(
            f"{place}={_line_of(what)}: is neither plain data nor an object that another process "
            f"could import by its name; needs a function or class at the top level of a module, "
            f"functools.partial of one, or a dataclass"
        )
    if entry is source:
        return name
    return {"name": name, **{k: written(v, f"{place}.{k}") for k, v in fields.items()}}


def _equal(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, str | bool | int | float) and a == b)


def _line_of(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 60 else f"{text[:57]}..."
