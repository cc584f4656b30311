"""A pytest plugin that reports the time of the suite: slowest tests and modules, time by folder.

The slowest modules, which `budget.toml` lists, start first, so that no worker still runs one of
them when all others have finished. Each worker reports the CPU seconds of every test, its fixtures
and the processes that the test waited for, and the sums by folder are compared with `budget.toml`.
A folder over its budget prints a prominent line, but no test fails, as machines differ.
"""

from __future__ import annotations

import resource
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("budget.toml")
SLOWEST = 15
SUITE = pytest.StashKey[str]()
"""The selection of tests that `make test` runs."""


def cpu() -> float:
    """Return the seconds of CPU time of this process and of its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def folder(nodeid: str) -> str:
    """Return the folder of a test below tests/, "." for the files directly in it."""
    parents = nodeid.partition("::")[0].split("/")[1:-1]
    return parents[0] if parents else "."


def over(spent: dict[str, float], budget: dict[str, float]) -> list[str]:
    """Return a line for each folder that exceeds its budget, or that has none."""
    lines = []
    for name, seconds in sorted(spent.items()):
        if name not in budget:
            lines.append(f"tests/{name}: {seconds:.0f} s of CPU time and no line in budget.toml")
        elif seconds > budget[name]:
            lines.append(f"tests/{name}: {seconds:.0f} s of CPU time, budget {budget[name]:.0f} s")
    return lines


class Budget:
    """Adds up the CPU time of tests, and prints it at the end of a run."""

    def __init__(self, config: pytest.Config):
        self._config = config
        self.spent: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = cpu()
        item.user_properties.append(("cpu", began))  # the teardown's report makes it a difference
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[Any]:
        report = yield
        if call.when == "teardown":
            began = dict(item.user_properties)["cpu"]
            report.user_properties = [("cpu", cpu() - began)]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.spent[report.nodeid] += dict(report.user_properties).get("cpu", 0.0)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.spent or hasattr(self._config, "workerinput"):
            return
        write, modules, folders = terminalreporter.write_line, Counter(), Counter()
        for nodeid, seconds in self.spent.items():
            modules[nodeid.partition("::")[0]] += seconds
            folders[folder(nodeid)] += seconds
        for title, counted in (("tests", self.spent), ("modules", modules)):
            write(f"slowest {title}, seconds of CPU time:")
            for name, seconds in counted.most_common(SLOWEST):
                write(f"  {seconds:7.1f}  {name}")
        write(f"by folder, {sum(folders.values()):.0f} seconds of CPU time in all:")
        for name, seconds in folders.most_common():
            write(f"  {seconds:7.1f}  tests/{name}")
        # Budgets are those of the whole suite as `make test` runs it.
        if self._config.getoption("markexpr") == self._config.stash[SUITE]:
            for line in over(dict(folders), tomllib.loads(FILE.read_text())["seconds"]):
                write(f"OVER BUDGET: {line}", red=True, bold=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the modules that start first to the front; the order is otherwise kept."""
    first = tomllib.loads(FILE.read_text())["first"]
    place = {f"tests/{name}": i for i, name in enumerate(first)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(first)))


def pytest_configure(config: pytest.Config) -> None:
    options = config.getini("addopts")
    config.stash[SUITE] = options[options.index("-m") + 1]
    config.pluginmanager.register(Budget(config))
