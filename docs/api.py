"""The API reference: a page per module or package of diffjax, of signatures and docstrings."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import itertools
import pkgutil
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from docstrings import rst, summary
from outside import REPOSITORY

import diffjax

MODULES = diffjax._MODULES
UNTOLD = ("parent", "name")
"""Fields that Flax adds to every module."""


def write(folder: Path) -> None:
    """All pages, and a list of them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.rst").write_text("\n".join(page(f"diffjax.{name}")) + "\n")
    about = {name: rst(summary(_doc(name)))[0] for name in MODULES}
    rows = [f"   * - :doc:`diffjax.{n} <{n}>`\n     - {told}" for n, told in about.items()]
    table = ["..  list-table::", "   :widths: 25 75", "", *rows, ""]
    tree = ["..  toctree::", "   :hidden:", "", *(f"   {name}" for name in MODULES), ""]
    (folder / "index.rst").write_text("\n".join([*_title("API", "="), *table, *tree]))


def _doc(name: str) -> str:
    return importlib.import_module(f"diffjax.{name}").__doc__ or name


def page(name: str) -> list[str]:
    """Of a module; of a package with all modules in it."""
    lines = []
    for module in modules(name):
        about, told = [*_source(module), *rst(module.__doc__ or "")], contents(module, name)
        if module.__name__ == name:
            lines += [*_title(name, "="), f".. py:module:: {name}", "", *about, *told]
        elif told:
            lines += [*_title(module.__name__, "-"), *about, *told]
    return lines


def _source(module: ModuleType) -> list[str]:
    path = Path(module.__file__ or "").relative_to(Path(diffjax.__file__).parent.parent)
    return [f"`{path} <{REPOSITORY}/{path}>`__", ""]


def modules(name: str) -> list[ModuleType]:
    """A module; a package with all modules in it."""
    module = importlib.import_module(name)
    parts = (part.name for part in pkgutil.iter_modules(getattr(module, "__path__", [])))
    inside = [part for part in parts if part != "__main__"]
    return [module, *(importlib.import_module(f"{name}.{part}") for part in inside)]


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines itself and tells about."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and not name.startswith("_") and callable(value) and inspect.getdoc(value):
            yield name, value


def home(name: str, value: Any, module: str, package: str) -> str:
    """The module where a user finds it: the package, where that has it."""
    return package if getattr(importlib.import_module(package), name, None) is value else module


def contents(module: ModuleType, package: str) -> list[str]:
    lines = []
    for name, value in public(module):
        where = [f"   :module: {home(name, value, module.__name__, package)}"]
        lines += (_class if inspect.isclass(value) else _function)(name, value, where)
    for name, told in constants(module):
        where = home(name, getattr(module, name), module.__name__, package)
        lines += [f".. py:data:: {name}", f"   :module: {where}", "", *_indented(rst(told))]
    return lines


def constants(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Names of what is made there, with the string below."""
    body = ast.parse(Path(module.__file__ or "").read_text()).body
    for a, b in itertools.pairwise(body):
        string = isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant) and b.value.value
        made = isinstance(a, ast.Assign) and not isinstance(a.value, ast.Name | ast.Attribute)
        if made and isinstance(string, str):
            name = ast.unparse(a.targets[0])
            if name.isidentifier() and not name.startswith("_"):
                yield name, string


def _function(name: str, value: Any, options: list[str], kind: str = "function") -> list[str]:
    told, arguments = signature(value)
    doc = rst(inspect.getdoc(value) or "", arguments)
    return [f".. py:{kind}:: {name}{told}", *options, "", *_indented(doc)]


def _class(name: str, value: type, options: list[str]) -> list[str]:
    told, arguments = signature(value)
    lines = rst(inspect.getdoc(value) or "", arguments)
    for each, member in vars(value).items():
        if each.startswith("_") and each != "__call__":
            continue
        if isinstance(member, property) and member.__doc__:
            lines += [f".. py:property:: {each}", "", *_indented(rst(inspect.getdoc(member) or ""))]
        elif inspect.isfunction(member) and member.__doc__:
            lines += _function(each, member, [], "method")
    return [f".. py:class:: {name}{told}", *options, "", *_indented(lines)]


def signature(value: Any) -> tuple[str, list[str]]:
    """With annotations as they are written, and the names of the arguments."""
    try:
        found = inspect.signature(value)
    except ValueError:  # an alias of a type
        return "", []
    known = vars(importlib.import_module(value.__module__))
    kept = [p for p in found.parameters.values() if p.name not in (*UNTOLD, "self")]
    if not kept and inspect.isclass(value):
        return "", []
    back = found.return_annotation if found.return_annotation not in (None, "None") else found.empty
    told = found.replace(
        parameters=[_parameter(p, known) for p in kept], return_annotation=_annotation(back, known)
    )
    return str(told), [p.name for p in kept]


def _parameter(p: inspect.Parameter, known: dict[str, Any]) -> inspect.Parameter:
    default = p.default if p.default is p.empty else _Text(shown(p.default))
    return p.replace(annotation=_annotation(p.annotation, known), default=default)


def _annotation(annotation: Any, known: dict[str, Any]) -> Any:
    """As text; names that are told about by their whole path."""
    if annotation is inspect.Signature.empty:
        return annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _Text(re.sub(r"(?<![\w.])[A-Za-z_]\w*", lambda m: _whole(m[0], known), text))


def _whole(name: str, known: dict[str, Any]) -> str:
    """Of others' things, too, where one of ours has the same name."""
    value = known.get(name, known)
    if id(value) in targets():
        return targets()[id(value)]
    there = getattr(value, "__module__", "")
    return f"{there}.{name}" if there and name in names() else name


@functools.cache
def targets() -> dict[int, str]:
    """Where all that is told about is told, by its id."""
    found = {}
    for package in (f"diffjax.{name}" for name in MODULES):
        for module in modules(package):
            names = [name for name, _ in (*public(module), *constants(module))]
            for name, value in ((name, getattr(module, name)) for name in names):
                found[id(value)] = f"{home(name, value, module.__name__, package)}.{name}"
    return found


@functools.cache
def names() -> set[str]:
    return {target.rsplit(".", 1)[1] for target in targets().values()}


def shown(default: Any) -> str:
    """A default value, a function by its name."""
    text = getattr(default, "__name__", None) or " ".join(repr(default).split())
    return "..." if " at 0x" in text else text


class _Text:
    """What is shown as this text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _indented(lines: list[str]) -> list[str]:
    return [f"   {line}".rstrip() for line in lines] + [""]
