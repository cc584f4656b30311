"""Configs as plain data: files, overrides, and the errors that a user can mend.

A config file is Python with `get_config()` returning an `ml_collections.ConfigDict`. Nothing here
knows what a field means: names and types are checked in `builder/`.
"""

from __future__ import annotations

import ast
import copy
import difflib
import importlib.util
import re
import signal
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "ml_collections_configs"

Config = Mapping[str, Any]


def _line(error: BaseException) -> list[str]:
    """What a notebook shows: the message, without the calls that led there."""
    return [f"{type(error).__name__}: {error}"]


class ConfigError(ValueError):
    """What the user asked for cannot work; the message is one line that says why."""

    _render_traceback_ = _line


class RunError(RuntimeError):
    """A run that has to stop; the message is one line that says why, and what is saved.

    code: the exit code. stuck: a thread waits for what may never come, and cannot be ended.
    """

    _render_traceback_ = _line

    def __init__(self, message: str, code: int = 1, stuck: bool = False):
        super().__init__(message)
        self.code, self.stuck = code, stuck


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and has saved: by ctrl-C, SIGTERM, or the stop button of a
    notebook. The same call or command goes on at `step`."""

    _render_traceback_ = _line

    def __init__(self, signal: signal.Signals, step: int):
        super().__init__(f"{signal.name}: saved at step {step}; the same call goes on")
        self.signal, self.step = signal, step


def load(path: str) -> dict[str, Any]:
    """The config of a file; `configs/NAME.py` and `NAME` are looked up among the built-in ones too.

    Raises ConfigError where there is no such file, or where it is no config file.
    """
    file = next((p for p in _candidates(path) if p.is_file()), None)
    if file is None:
        names = sorted(p.stem for f in _folders() for p in f.glob("*_*.py") if p.stem[0] != "_")
        raise ConfigError(f"--config={path}: no such file{nearest(Path(path).stem, names)}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config().to_dict()
    except Exception as error:
        raise ConfigError(f"--config={path}: {type(error).__name__}: {error}") from error


def _candidates(path: str) -> list[Path]:
    name = Path(path).stem + ".py"
    return [Path(path), *(folder / name for folder in _folders())]


def _folders() -> list[Path]:
    found = importlib.util.find_spec(FOLDER)
    return [Path(p) for p in found.submodule_search_locations or ()] if found else []


def override(config: Config, assignments: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` texts. Values are Python literals, or strings where the field is one.

    A section that has a name is replaced as a whole by `a.b=name:argument=value,...`, and any by a
    literal dict.
    """
    result = copy.deepcopy(dict(config))
    for text in assignments:
        path, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"--config.{path}: has no value; the form is --config.{path}=value")
        *parents, leaf = path.split(".")
        node, place = result, "config"
        for name in parents:
            known([name], node, place)
            node, place = node[name], f"{place}.{name}"
            if not isinstance(node, dict):
                raise ConfigError(f"{place}={node!r}: has no fields, so no {leaf!r}")
        old = node.get(leaf)
        if isinstance(old, dict) and isinstance(made := literal(value), dict):
            node[leaf] = made
        elif isinstance(old, dict) and "name" in old and place != "config":
            node[leaf] = parse(value)
        elif isinstance(old, dict):
            raise ConfigError(f"{place}.{leaf}: has fields of its own: {', '.join(node[leaf])}")
        else:
            node[leaf] = value if isinstance(old, str) else literal(value)
    return result


def literal(text: str) -> Any:
    """The Python value that `text` writes, or `text` itself where it writes none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def parse(text: str) -> dict[str, Any]:
    """`ddim:eta=0.5` to `{"name": "ddim", "eta": 0.5}`; more arguments are set off by commas."""
    name, _, arguments = text.partition(":")
    pairs = [item.partition("=") for item in _parts(arguments) if item]
    if bad := [key for key, sign, _ in pairs if not sign]:
        raise ConfigError(f"{text!r}: {bad[0]!r} has no value; the form is name:argument=value,...")
    return {"name": name} | {key: literal(value) for key, _, value in pairs}


def named(section: Config, *entries: str) -> dict[str, Any]:
    """The section, where these fields may be written as `name:argument=value`."""
    is_text = lambda k: k in entries and isinstance(section[k], str)
    return {k: parse(v) if is_text(k) else v for k, v in section.items()}


def entries(text: str) -> list[str]:
    """`ddim:eta=0.5,heun` to its two: what reads `argument=value` belongs to the one before."""
    found: list[str] = []
    for item in _parts(text):
        if found and re.match(r"\w+=", item):
            found[-1] += f",{item}"
        else:
            found.append(item)
    return found


def _parts(text: str) -> list[str]:
    """Between commas that are not in brackets: (1, 2) is one value."""
    return re.split(r",(?![^(\[]*[)\]])", text)


def known(given: Iterable[str], allowed: Iterable[str], place: str) -> None:
    """Refuse names that are not allowed, with a suggestion and the list."""
    allowed = list(allowed)
    for name in given:
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
