"""The import table of the architecture: an import goes down only."""

import ast
from pathlib import Path

import pytest

import diffjax

ROOT = Path(diffjax.__file__).parent
LAYERS = {
    0: ("arrays", "config", "files", "progress"),
    1: ("schedules", "sde", "nets", "data", "published"),
    2: ("parameterization", "denoiser", "analytic", "draws"),
    3: (
        *("guidance", "weights", "likelihood", "losses", "grids", "samplers"),
        *("plot", "report"),
    ),
    4: ("training", "evaluation"),
    5: ("build", "trained", "launch"),
    6: ("cli", "train", "sample", "evaluate", "tools"),
}
# Within a layer: who may import whom.
WITHIN = {
    ("sde", "schedules"),
    ("denoiser", "parameterization"),
    ("analytic", "denoiser"),
    ("samplers", "guidance"),
    ("plot", "samplers"),
    ("losses", "weights"),
    ("losses", "likelihood"),
    ("likelihood", "samplers"),
    ("evaluation", "training"),
    ("train", "cli"),
    ("sample", "cli"),
    ("published", "nets"),
    ("published", "schedules"),
    ("published", "sde"),
    ("trained", "build"),
    ("launch", "build"),
    ("launch", "trained"),
    ("evaluate", "cli"),
    ("evaluate", "sample"),
    ("tools", "cli"),
    ("tools", "sample"),
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def imports(path: Path) -> set[str]:
    """Dotted names imported anywhere in the file."""
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


def test_every_module_has_a_layer():
    assert {unit(p) for p in FILES} == set(LAYER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    me = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "diffjax" or len(parts) == 1 or parts[1].startswith("__"):
            continue
        other = parts[1]
        allowed = other == me or LAYER[other] < LAYER[me] or (me, other) in WITHIN
        assert allowed, f"{path.relative_to(ROOT)} (layer {LAYER[me]}) imports {name}"


def test_flax_only_in_nets():
    users = {unit(p) for p in FILES if any(n.split(".")[0] == "flax" for n in imports(p))}
    assert users == {"nets"}


def test_names_are_looked_up_in_build_only():
    catalogues = ("SCHEDULES", "SDES", "PARAMETERIZATIONS", "SAMPLERS", "GRIDS", "NETWORKS")
    for path in FILES:
        if unit(path) != "build" and path.name != "__init__.py":
            used = {n.split(".")[-1] for n in imports(path)}
            assert not used & set(catalogues), path
