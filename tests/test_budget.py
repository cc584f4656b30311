"""The suite measures its own time: sums of CPU seconds, and the lines about them."""

import tomllib
from pathlib import Path

import pytest
from budget import FILE, SUITE, Budget, folder, over

TESTS = Path(__file__).parent


class Screen(list):
    """Collects the lines that a terminal would show."""

    def write_line(self, line, **_):
        self.append(line)


def report(nodeid, seconds, when="teardown"):
    shown = {"keywords": {}, "outcome": "passed", "longrepr": None, "location": ("", 0, "")}
    return pytest.TestReport(nodeid, when=when, user_properties=[("cpu", seconds)], **shown)


def test_seconds_are_added_up_by_folder():
    """A folder that grows would hide in another one."""
    assert folder("tests/nets/test_unet.py::test_a[x/y]") == "nets"
    assert folder("tests/samplers/deep/test_b.py::test_b") == "samplers"
    assert folder("tests/test_config.py::test_c") == "."


def test_what_is_over_its_budget_or_has_none_is_named():
    """The suite would grow by minutes, and nobody would notice before it is cut off."""
    lines = over({"nets": 12.0, "data": 5.0, "new": 1.0}, {"nets": 10, "data": 5})
    assert lines == [
        "tests/nets: 12 s of CPU time, budget 10 s",
        "tests/new: 1 s of CPU time and no line in budget.toml",
    ]


def test_a_run_over_budget_ends_with_a_loud_line(pytestconfig, monkeypatch):
    """A table of numbers alone would scroll by."""
    most = tomllib.loads(FILE.read_text())["seconds"]["nets"]
    watch, screen = Budget(pytestconfig), Screen()
    watch.pytest_runtest_logreport(report("tests/nets/test_a.py::test_slow", most + 1.0))
    watch.pytest_runtest_logreport(report("tests/nets/test_a.py::test_slow", 99.0, "call"))
    monkeypatch.setattr(pytestconfig.option, "markexpr", pytestconfig.stash[SUITE])
    monkeypatch.delattr(pytestconfig, "workerinput", raising=False)
    watch.pytest_terminal_summary(screen)
    assert screen[-1].startswith(f"OVER BUDGET: tests/nets: {most + 1} s")
    assert f"  {most + 1:7.1f}  tests/nets/test_a.py::test_slow" in screen


def test_every_folder_has_a_budget():
    """Tests in a new folder would be free."""
    budget = tomllib.loads(FILE.read_text())["seconds"]
    assert {p.parent.name for p in TESTS.glob("*/test_*.py")} | {"."} == set(budget)


def test_modules_that_start_first_exist():
    """A module that was renamed would start last, and one worker wait for the other."""
    first = tomllib.loads(FILE.read_text())["first"]
    assert all((TESTS / name).is_file() for name in first)
