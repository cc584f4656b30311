"""Fields of a config: parsing of texts, and checks of names and types."""

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
    """Return the Python value of a literal, or `text` itself if it is not a literal.

    `true`, `false` and `none` are literals in upper or lower case.

    >>> [literal(text) for text in ("0.5", "(1, 2)", "true", "heun")]
    [0.5, (1, 2), True, 'heun']
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def parse(text: str) -> dict[str, Any]:
    """Parse `ddim:eta=0.5` to `{"name": "ddim", "eta": 0.5}`; commas separate several arguments.

    The name may be `module:attribute`, as in `mymodule:small:width=8`. Raises ConfigError for an
    argument without a value.

    >>> parse("ddim:eta=0.5")
    {'name': 'ddim', 'eta': 0.5}
    """
    qualified = re.match(r"[\w.]+:[\w.]+(?=:|$)", text)
    name = qualified[0] if qualified else text.partition(":")[0]
    return {"name": name} | arguments(text[len(name) + 1 :], text)


def arguments(text: str, place: str) -> dict[str, Any]:
    """Parse `eta=0.5,order=2` to a dict.

    Raises ConfigError, which names the place, for an argument without a value.

    >>> arguments("eta=0.5,order=2", "config.sampling.sampler")
    {'eta': 0.5, 'order': 2}
    """
    pairs = [item.partition("=") for item in separated(text) if item]
    if bad := [key for key, sign, _ in pairs if not sign]:
        raise ConfigError(
            f"{place!r}: {bad[0]!r} has no value; the form is name:argument=value,..."
        )
    return {key: literal(value) for key, _, value in pairs}


def named(section: Config, *entries: str) -> dict[str, Any]:
    """Return the section with these fields parsed where they are texts `name:argument=value`.

    >>> named({"sampler": "ddim:eta=0.5", "steps": 20}, "sampler", "grid")
    {'sampler': {'name': 'ddim', 'eta': 0.5}, 'steps': 20}
    """
    is_text = lambda k: k in entries and isinstance(section[k], str)
    return {k: parse(v) if is_text(k) else v for k, v in section.items()}


def entries(text: str) -> list[str]:
    """Split `ddim:eta=0.5,heun` into its two entries.

    A part of the form `argument=value` belongs to the entry before it.

    >>> entries("ddim:eta=0.5,heun")
    ['ddim:eta=0.5', 'heun']
    """
    items: list[str] = []
    for item in separated(text):
        if items and re.match(r"\w+=", item):
            items[-1] += f",{item}"
        else:
            items.append(item)
    return items


def separated(text: str) -> list[str]:
    """Split a text at its commas, except inside brackets.

    >>> separated("a=(1, 2),b=3")
    ['a=(1, 2)', 'b=3']
    """
    return re.split(r",(?![^(\[]*[)\]])", text)


def known(names: Iterable[str], allowed: Iterable[str], place: str) -> None:
    """Raise ConfigError for a name that is not allowed, with a suggestion and the allowed names.

    >>> known(["stpes"], ["steps", "seed"], "config.train")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: config.train.stpes: ...
    """
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{place}.{name}: no such field{nearest(name, allowed)}")


def similar(name: Any, names: Iterable[str]) -> str:
    """Return the name that is most like another, whatever its case; "" where none is.

    >>> similar("DDMI", ["ddim", "heun"]), similar("rk4", ["ddim"])
    ('ddim', '')
    """
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    return folded[near[0]] if near else ""


def nearest(name: Any, names: Iterable[str]) -> str:
    """Return a hint for an unknown name: the nearest of `names`, and all of them.

    Upper and lower case count as equal.

    >>> nearest("DDMI", ["ddim", "heun"])
    " (did you mean 'ddim'?); known: ddim, heun"
    """
    names = sorted(names)
    near = similar(name, names)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"{hint}; known: {', '.join(names) or 'none'}"


def checked(value: Any, hint: Any, place: str) -> Any:
    """Return `value` as the type `hint`; a list becomes a tuple, and an int a float if needed.

    Raises ConfigError for a value of another type. The checked hints are int, float, str, bool,
    None, unions and tuples of these, and mappings of names to one of them; other hints are ignored.

    >>> checked([1, 2], tuple[float, ...], "config.network.rates")
    (1.0, 2.0)
    >>> checked("8", int, "config.network.width")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: config.network.width='8': ...
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
