"""The import table of the architecture: imports go down only."""

import ast
import re
from pathlib import Path

import pytest

import diffjax

ROOT = Path(diffjax.__file__).parent
LAYERS = (
    ("arrays", "checks", "config", "files", "intervals", "pages", "progress"),
    (
        *("devices", "environments", "io", "resampling", "schedules", "solvers", "spaces", "specs"),
        *("watermark", "zoo"),
    ),
    ("data", "nets", "sde"),
    ("discrete", "draws", "grids", "parameterization", "prediction", "published"),
    ("codecs", "denoiser", "encoders", "features", "guidance"),
    ("analytic", "filters", "likelihood", "samplers", "weights"),
    ("generation", "inverse", "objectives", "plot"),
    ("evaluation", "report", "training"),
    ("aot", "builder"),
    ("runs", "cli", "export"),
    ("__main__", "train", "sample", "evaluate", "serve", "tools"),
)
"""Packages and modules from the bottom up: each imports itself and what is in the rows above."""
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def imports(path: Path) -> set[str]:
    """Return the dotted names imported anywhere in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


def unit(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_the_readme_shows_the_same_map():
    """A reader would look for a package where it no longer is."""
    text = (ROOT.parent / "README.md").read_text()
    block = re.search(r"^diffjax/ .*?\n((?:  .*\n)+)", text, re.M)
    assert block
    rows = [re.split(r"\s{3,}", line.strip())[0] for line in block[1].splitlines()]
    shown = [{name.rstrip("/") for name in row.split()} for row in rows]
    assert shown == [set(layer) for layer in LAYERS]


def test_every_module_has_a_layer():
    assert {unit(p) for p in FILES} == set(LAYER)
    assert len(LAYERS) <= 11


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    me = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "diffjax" or len(parts) == 1 or parts[1].startswith("__"):
            continue
        other = parts[1]
        allowed = other == me or LAYER[other] < LAYER[me]
        assert allowed, f"{path.relative_to(ROOT)} (layer {LAYER[me]}) imports {name}"


def test_functions_fit_on_a_screen():
    """A function would exceed 60 lines with signature and docstring: it is two functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ((path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text())))
    lines = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, node in nodes
        if isinstance(node, functions)
    }
    assert {place: count for place, count in lines.items() if count > 60} == {}


def test_flax_only_in_networks():
    users = {unit(p) for p in FILES if any(n.split(".")[0] == "flax" for n in imports(p))}
    assert users == {"nets", "features"}


def test_pytrees_are_registered_by_one_function():
    """`jax.tree_util.register_dataclass` leaves the class out of the structure, by which JAX looks
    up programs: one class would be run by the program of another."""
    users = [p for p in FILES if "tree_util.register_" in p.read_text()]
    assert [p.name for p in users] == ["arrays.py"]


def test_names_are_looked_up_in_the_builder_only():
    catalogues = {"SCHEDULES", "SDES", "PARAMETERIZATIONS", "SAMPLERS", "GRIDS", "NETWORKS"}
    catalogues |= {
        "REFERENCES",
        "RULES",
        "THRESHOLDS",
        "RAMPS",
        "TRACES",
        "DEQUANTIZERS",
        "FILTERS",
    }
    for path in FILES:
        if unit(path) != "builder" and path.name != "__init__.py":
            used = {n.split(".")[-1] for n in imports(path)}
            nodes = ast.walk(ast.parse(path.read_text()))
            attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
            used |= {a.attr for a in attributes if ast.unparse(a.value) != "builder"}
            assert not used & catalogues, path
