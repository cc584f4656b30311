"""The progress that long work shows on a terminal."""

import io
import time
from types import SimpleNamespace

import pytest

from diffjax import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(progress, "SOON", 0.05)
    monkeypatch.setattr(progress, "STEP", 0.05)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=shown))
    return shown


def test_a_compiler_that_takes_long_is_seen(terminal):
    """A terminal would show no progress for minutes, or keep the line for ever."""
    with progress.compiling("the sampler"):
        deadline = time.monotonic() + 10
        while terminal.getvalue().count("compiling") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = terminal.getvalue().split("\r\x1b[K")
    assert lines[0] == "" == lines[-1]  # it is gone
    assert all(line == "compiling the sampler ... 0 s" for line in lines[1:-1])
    assert "\n" not in terminal.getvalue()


def test_nothing_is_printed_for_fast_or_failing_work_and_one_line_without_a_terminal(
    terminal, monkeypatch
):
    """Logs would fill with control characters, or an error of the compiler be lost."""
    monkeypatch.setattr(progress, "SOON", 10.0)
    with pytest.raises(ValueError, match="no program"), progress.compiling("a"):
        raise ValueError("no program")
    monkeypatch.setattr(progress, "SOON", 0.0)
    with progress.compiling("b", quiet=True):
        time.sleep(0.02)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=(plain := io.StringIO())))
    with progress.compiling("c"):
        time.sleep(0.02)
    assert plain.getvalue() == "compiling c ...\n"
