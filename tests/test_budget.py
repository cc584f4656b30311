"""The suite measures its own time: CPU seconds by folder, and lines about excess."""

import tomllib
from pathlib import Path

import pytest
from budget import FILE, SUITE, Budget, folder, over

TESTS = Path(__file__).parent


class Screen(list):
    """A terminal that collects its lines."""

    def write_line(self, line, **_):
        self.append(line)


def report(nodeid, seconds, when="teardown"):
    shown = {"keywords": {}, "outcome": "passed", "longrepr": None, "location": ("", 0, "")}
    return pytest.TestReport(nodeid, when=when, user_properties=[("cpu", seconds)], **shown)


def test_seconds_are_added_up_by_folder():
    """The time of one folder would count in another."""
    assert folder("tests/nets/test_unet.py::test_a[x/y]") == "nets"
    assert folder("tests/samplers/deep/test_b.py::test_b") == "samplers"
    assert folder("tests/test_config.py::test_c") == "."


def test_what_is_over_its_budget_or_has_none_is_named():
    """The suite would grow by minutes, unnoticed until it exceeds a time limit."""
    lines = over({"nets": 12.0, "data": 5.0, "new": 1.0}, {"nets": 10, "data": 5})
    assert lines == [
        "tests/nets: 12 s of CPU time, budget 10 s",
        "tests/new: 1 s of CPU time and no line in budget.toml",
    ]


def test_a_run_over_budget_ends_with_a_loud_line(pytestconfig, monkeypatch):
    """Nobody would read a table of numbers without a message."""
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
    """Tests in a new folder would have no limit."""
    budget = tomllib.loads(FILE.read_text())["seconds"]
    assert {p.parent.name for p in TESTS.glob("*/test_*.py")} | {"."} == set(budget)


def test_modules_that_start_first_exist():
    """A renamed module would start last, and one worker wait for the other."""
    first = tomllib.loads(FILE.read_text())["first"]
    assert all((TESTS / name).is_file() for name in first)
