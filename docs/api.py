"""The API reference: a page per module or package of diffjax, of signatures and docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from docstrings import rst, summary

import diffjax

MODULES = tuple(name for name in diffjax._MODULES if name != "load")
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
    module = importlib.import_module(name)
    lines = [*_title(name, "="), *_about(module), *contents(module, name)]
    for part in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if not part.name.startswith("_"):
            inner = importlib.import_module(f"{name}.{part.name}")
            told = contents(inner, name)
            lines += [*_title(f"{name}.{part.name}", "-"), *_about(inner), *told] if told else []
    return lines


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _about(module: ModuleType) -> list[str]:
    return [f".. py:module:: {module.__name__}", "", *rst(module.__doc__ or "")]


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module defines itself and tells about."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and not name.startswith("_") and callable(value) and inspect.getdoc(value):
            yield name, value


def path(name: str, value: Any, module: str, package: str) -> str:
    """Where a user finds it: in the package, where that has it."""
    short = getattr(importlib.import_module(package), name, None) is value
    return f"{package if short else module}.{name}"


def contents(module: ModuleType, package: str) -> list[str]:
    lines = []
    for name, value in public(module):
        where = path(name, value, module.__name__, package)
        lines += _class(where, value) if inspect.isclass(value) else _function(where, value)
    for name, told in constants(module):
        where = path(name, getattr(module, name), module.__name__, package)
        lines += [f".. py:data:: {where}", "", *_indented(rst(told))]
    return lines


def constants(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Names that are assigned, with the string below."""
    body = ast.parse(inspect.getsource(module)).body
    for a, b in itertools.pairwise(body):
        string = isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant) and b.value.value
        if isinstance(a, ast.Assign) and isinstance(string, str):
            name = ast.unparse(a.targets[0])
            if name.isidentifier() and not name.startswith("_"):
                yield name, string


def _function(where: str, value: Any, kind: str = "function") -> list[str]:
    told, arguments = signature(value)
    doc = rst(inspect.getdoc(value) or "", arguments)
    return [f".. py:{kind}:: {where}{told}", "", *_indented(doc)]


def _class(where: str, value: type) -> list[str]:
    told, arguments = signature(value)
    lines = rst(inspect.getdoc(value) or "", arguments)
    for name, member in vars(value).items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property) and member.__doc__:
            lines += [f".. py:property:: {name}", "", *_indented(rst(inspect.getdoc(member) or ""))]
        elif inspect.isfunction(member) and member.__doc__:
            lines += _function(name, member, "method")
    return [f".. py:class:: {where}{told}", "", *_indented(lines)]


def signature(value: Any) -> tuple[str, list[str]]:
    """With annotations as they are written, and the names of the arguments."""
    try:
        found = inspect.signature(value)
    except ValueError:  # an alias of a type
        return "", []
    kept = [p for p in found.parameters.values() if p.name not in (*UNTOLD, "self")]
    if not kept and inspect.isclass(value):
        return "", []
    told = found.replace(parameters=[_parameter(p) for p in kept])
    back = "" if found.return_annotation in (None, "None") else told.return_annotation
    told = told.replace(return_annotation=_annotation(back) if back else inspect.Signature.empty)
    return str(told), [p.name for p in kept]


def _parameter(p: inspect.Parameter) -> inspect.Parameter:
    default = p.default if p.default is p.empty else _Text(shown(p.default))
    return p.replace(annotation=_annotation(p.annotation), default=default)


def _annotation(annotation: Any) -> Any:
    """Text that is shown as it is."""
    if annotation is inspect.Signature.empty:
        return annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _Text(text)


def shown(default: Any) -> str:
    """A default value, a function by its name."""
    text = getattr(default, "__name__", None) or repr(default)
    return "..." if " at 0x" in text else text


class _Text:
    """What is shown as this text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _indented(lines: list[str]) -> list[str]:
    return [f"   {line}".rstrip() for line in lines] + [""]
