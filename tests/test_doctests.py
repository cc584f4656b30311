"""Examples in docstrings print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import diffjax

ROOT = Path(diffjax.__path__[0])
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_there_are_some():
    """A pattern that finds none would test nothing."""
    assert {"diffjax.sde", "diffjax.grids", "diffjax.samplers.table"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    """A reader of the API reference would type them and see something else."""
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
