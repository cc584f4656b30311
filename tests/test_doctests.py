"""Examples in docstrings print what they show, and every public name has one."""

import ast
import doctest
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffjax

ROOT = Path(diffjax.__path__[0])
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text()
]
PRIVATE = ("cli", "tools")
"""Packages of the commands, which nobody imports."""
WHOLE = (
    *("devices/mesh", "devices/processes", "io/reading", "io/trees"),
    *("runs/launch", "runs/trained", "training/ema", "training/optimizer"),
)
"""Modules that are public as a whole, as all modules beside the packages are."""
EXEMPT = {
    "trains a network, which takes seconds; README.md and tests/runs have such calls": (
        *("runs/launch.fit", "runs/launch.launch", "runs/launch.loader", "runs/launch.weights"),
        *("runs/launch.with_held", "runs/trained.resampled", "features/judge.Judge"),
        *("evaluation/images.Subject", "evaluation/likelihood.bpd", "evaluation/likelihood.vlb"),
        *("builder/sampling.untrained", "builder/sampling.doubts", "builder/sampling.off_grid"),
        *("evaluation/policies.success", "generation/job.Job"),
    ),
    "converts a published checkpoint, which tests/parity has": ("runs/trained.convert",),
    "takes a second; Generation, lines, logp and vlb show such a call": (
        *("generation/program.generate", "likelihood/bound.vlb_map", "likelihood/ode.log_weights"),
        "plot/lines.curves",
    ),
    "is a result of functions that have examples": (
        *("environments/episodes.Demonstrations", "environments/episodes.Episodes"),
        "environments/gymnasium.HostEpisodes",
        *("analytic.Correlated", "analytic.MixtureDenoiser", "analytic.MixtureFlowMap"),
        *(
            "analytic.Rotated",
            "denoiser.Reframed",
            "likelihood/ode.Density",
            "runs/trained.Trained",
        ),
        *("samplers/run.Preview", "samplers/run.Result", "samplers/tuning.Optimized"),
        *(
            "encoders/pretrained.Pretrained",
            "encoders/pair.Pair",
            "encoders/with_t5.WithT5",
            "nets/adapted.Adapted",
        ),
        "samplers/tuning.Refinement",
    ),
    "is called with a flow map in training alone": (
        *("objectives/rules.Lagrangian", "objectives/rules.Semigroup"),
        *("objectives/velocities.Conditional", "objectives/velocities.Own"),
    ),
    "needs a package that few have": ("filters/opennsfw.opennsfw",),
    "exits the process": ("runs/launch.interrupted",),
    "is called inside a Flax module alone": ("nets/conditions/base.learned",),
    "opens the files or the connection of a dashboard": (
        *("training/writers.Tensorboard", "training/writers.Wandb"),
    ),
}
"""Public names without an example, by the reason."""


def test_there_are_some():
    """A pattern that matches no example would test nothing."""
    assert {"diffjax.sde", "diffjax.grids", "diffjax.samplers.table"} <= set(MODULES)


@pytest.mark.docs
@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    """A reader of the API reference would type an example and see something else.

    Three dots stand for the rest of a line, such as that of an error.
    """
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def exported(path: Path) -> Iterator[str]:
    """Return the names in `__all__`, and the entries of catalogues."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "__all__":
                yield from ast.literal_eval(node.value)
            elif "catalogue(" in ast.unparse(node.value):
                yield from (n.id for n in ast.walk(node.value) if isinstance(n, ast.Name))


@functools.cache
def definitions(path: Path) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    kinds = ast.FunctionDef | ast.ClassDef
    return {node.name: node for node in tree(path).body if isinstance(node, kinds)}


@functools.cache
def imported(path: Path) -> dict[str, Path]:
    """Return the file from which each name imported from the package comes."""
    files = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("diffjax"):
            module = ROOT.parent / str(node.module).replace(".", "/")
            file = module.with_suffix(".py")
            file = file if file.exists() else module / "__init__.py"
            files |= {alias.name: file for alias in node.names}
    return files


def origin(path: Path, name: str) -> Path | None:
    """Return the file that defines a function or a class, None for a constant."""
    if name in definitions(path):
        return path
    known = imported(path)
    return origin(known[name], name) if name in known else None


def public() -> set[tuple[Path, str]]:
    names = set()
    for path in sorted(ROOT.rglob("*.py")):
        short = str(path.relative_to(ROOT).with_suffix(""))
        if short.split("/")[0] in PRIVATE:
            continue
        whole = short in diffjax._MODULES or short in WHOLE
        for name in (*exported(path), *(definitions(path) if whole else ())):
            if (file := origin(path, name)) and not name.startswith("_"):
                names.add((file, name))
    return names


def is_interface(node: ast.AST) -> bool:
    """Return whether it is a protocol or an abstract class, whose entries have the examples."""
    bases = {ast.unparse(base) for base in getattr(node, "bases", ())}
    return bool({"Protocol", "abc.ABC"} & bases) or "abc.abstractmethod" in ast.unparse(node)


def has_example(file: Path, name: str) -> bool:
    """Return whether the docstring, or that of its module or package, has an example of it."""
    if ">>> " in (ast.get_docstring(definitions(file)[name]) or ""):
        return True
    around = (ast.get_docstring(tree(path)) or "" for path in (file, file.parent / "__init__.py"))
    lines = (line.strip() for text in around for line in text.splitlines())
    return any(f"{name}(" in line for line in lines if line.startswith((">>> ", "... ")))


def test_every_public_name_has_an_example():
    """`help` would state what a function does, but not how to call it."""
    lacking = {
        f"{file.relative_to(ROOT).with_suffix('')}.{name}"
        for file, name in public()
        if not (has_example(file, name) or is_interface(definitions(file)[name]))
    }
    assert lacking == {name for names in EXEMPT.values() for name in names}
