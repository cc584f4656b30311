"""Fields of a config: values written as text, names that are known, and types."""

from __future__ import annotations

import ast
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from diffjax.config.errors import ConfigError

Config = Mapping[str, Any]


def literal(text: str) -> Any:
    """The Python value that `text` writes, or `text` itself where it writes none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def parse(text: str) -> dict[str, Any]:
    """`ddim:eta=0.5` to `{"name": "ddim", "eta": 0.5}`; more arguments are set off by commas.

    The name may be `module:attribute`, as in `mymodule:small:width=8`.
    """
    qualified = re.match(r"[\w.]+:[\w.]+(?=:|$)", text)
    name = qualified[0] if qualified else text.partition(":")[0]
    return {"name": name} | arguments(text[len(name) + 1 :], text)


def arguments(text: str, place: str) -> dict[str, Any]:
    """`eta=0.5,order=2` to a dict. ConfigError names the place, for one without a value."""
    pairs = [item.partition("=") for item in _parts(text) if item]
    if bad := [key for key, sign, _ in pairs if not sign]:
        raise ConfigError(
            f"{place!r}: {bad[0]!r} has no value; the form is name:argument=value,..."
        )
    return {key: literal(value) for key, _, value in pairs}


def named(section: Config, *entries: str) -> dict[str, Any]:
    """The section, where these fields may be written as `name:argument=value`."""
    is_text = lambda k: k in entries and isinstance(section[k], str)
    return {k: parse(v) if is_text(k) else v for k, v in section.items()}


def entries(text: str) -> list[str]:
    """`ddim:eta=0.5,heun` to its two: what reads `argument=value` belongs to the one before."""
    items: list[str] = []
    for item in _parts(text):
        if items and re.match(r"\w+=", item):
            items[-1] += f",{item}"
        else:
            items.append(item)
    return items


def _parts(text: str) -> list[str]:
    """Between commas that are not in brackets: (1, 2) is one value."""
    return re.split(r",(?![^(\[]*[)\]])", text)


def known(names: Iterable[str], allowed: Iterable[str], place: str) -> None:
    """Refuse names that are not allowed, with a suggestion and the list."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{place}.{name}: no such field{nearest(name, allowed)}")


def nearest(name: Any, names: Iterable[str]) -> str:
    """A hint for a name that is not among `names`."""
    names = sorted(names)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{hint}; known: {', '.join(names) or 'none'}"


def checked(value: Any, hint: Any, place: str) -> Any:
    """`value` as the type `hint`, a list as a tuple, an int as a float; else ConfigError.

    Knows int, float, str, bool, None, unions and tuples of these, and mappings of names to one;
    other hints are not checked.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    named = [a for a in arguments if typing.get_origin(a) is Mapping]
    if named and isinstance(value, Mapping):
        of = typing.get_args(named[0])[1]
        return {k: checked(v, of, f"{place}.{k}") for k, v in value.items()}
    if named:
        arguments = tuple(a for a in arguments if typing.get_origin(a) not in (Mapping, tuple))
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(checked(v, arguments[0], f"{place}[{i}]") for i, v in enumerate(value))
    allowed = arguments if origin in (typing.Union, types.UnionType) else (hint,)
    plain = (int, float, str, bool, type(None))
    if origin is not tuple and not set(allowed) <= set(plain):
        return value
    of = type(value)
    if of in allowed:
        return value
    if of is int and float in allowed:
        return float(value)
    wanted = " or ".join(getattr(a, "__name__", str(a)) for a in allowed)
    raise ConfigError(f"{place}={value!r}: needs {wanted}, got {of.__name__}")
