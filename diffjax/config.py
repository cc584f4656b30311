"""Configs as plain data: files, overrides, names and objects, and errors that a user can mend.

A config file is Python with `get_config()` returning an `ml_collections.ConfigDict`. Names and
types of fields are checked in `builder/`.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import operator
import os
import re
import signal
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "ml_collections_configs"

Config = Mapping[str, Any]
STAY = {
    "data": (
        *("labels", "conditions", "flip", "crop", "balanced", "dequantize", "augment"),
        *("memory", "workers", "timeout"),
    ),
    "sde": ("schedule",),
    "network": ("conditions",),
    "optimizer": (
        *("learning_rate", "warmup", "schedule", "in_images", "clip", "rates", "frozen"),
    ),
}
"""Fields of a section that are no settings of the entry that its name stands for: they stay where
only the name is changed."""


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
    if file.suffix != ".py":
        raise ConfigError(f"--config={path}: no Python file; needs a config file, NAME.py")
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
    package = importlib.util.find_spec(FOLDER)
    return [Path(p) for p in package.submodule_search_locations or ()] if package else []


def override(config: Config, assignments: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` texts. Values are Python literals, or strings where the field is one.

    A section that has a name is replaced as a whole by `a.b=name:argument=value,...`, and any by a
    literal dict. Another name, `a.b.name=name`, drops the settings of the entry that was there, and
    keeps those in `STAY`. Whole sections come first, then names, then other fields, so that no
    order of the texts loses one of them; of two for one field the last counts.
    """
    result = copy.deepcopy(dict(config))
    for text in sorted(assignments, key=_breadth):
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
        if isinstance(old, dict) and isinstance(section := literal(value), dict):
            node[leaf] = section
        elif isinstance(old, dict) and "name" in old:
            node[leaf] = parse(value)
        elif isinstance(old, dict):
            raise ConfigError(f"{place}.{leaf}: has fields of its own: {', '.join(node[leaf])}")
        elif leaf == "name" and parents and isinstance(old, str):
            _rename(node, ".".join(parents), value)
        else:
            node[leaf] = value if isinstance(old, str) else literal(value)
    return result


def _breadth(assignment: str) -> float:
    """How deep the field lies that is assigned: a name just below the section that has it."""
    path = assignment.partition("=")[0]
    return path.count(".") - 0.5 * path.endswith(".name")


def _rename(section: dict[str, Any], path: str, name: str) -> None:
    """Give the section another name; settings of another entry are dropped."""
    entry = lambda text: text.partition(":")[0] if path == "data" else text
    if entry(section["name"]) != entry(name):
        for field in [k for k in section if k not in STAY.get(path, ())]:
            del section[field]
    section["name"] = name


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


def lookup(table: Mapping[str, Any], name: Any, place: str, needs: Any = Callable) -> Any:
    """The entry of a catalogue; or what `module:attribute` names in a module of one's own.

    The module has to be in the current folder or on the PYTHONPATH. needs: the type that the
    attribute has to have; functions and classes by default. Raises ConfigError.
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
    if not {"", os.getcwd()} & {*sys.path}:  # as with `python -m`, for other ways to start
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            reason = f"no module {error.name!r} in the current folder or on the PYTHONPATH{known}"
        else:
            said = " ".join(str(error).split())
            reason = f"the module does not import: {type(error).__name__}: {said}"
        raise ConfigError(f"{place}: {reason}") from error
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError as error:
        if name == "__main__":
            raise ConfigError(
                f"{place}: was defined in a notebook or script; define it again, or put it into a "
                f"module and pass that: diffjax.load(path, network=...)"
            ) from error
        public = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == name]
        raise ConfigError(
            f"{place}: the module has no {attribute!r}{nearest(attribute, public)}"
        ) from error


@dataclass(frozen=True)
class Applied:
    """A function with some of its arguments: equal where both are."""

    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args, **dict(self.arguments))


def written(value: Any, place: str = "config") -> Any:
    """A config with Python objects as plain data, from which they are built again.

    A function or class becomes its name, `module:qualname`; with arguments, by `functools.partial`,
    and a dataclass become that name with fields. Raises ConfigError for an object that has no name
    by which another process could import it, as a lambda or an array.
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
