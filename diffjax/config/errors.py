"""Errors that a user can mend, and runs that stop, each in one line."""

from __future__ import annotations

import signal


def _line(error: BaseException) -> list[str]:
    """What a notebook shows: the message, without the calls that led there."""
    return [f"{type(error).__name__}: {error}"]


class ConfigError(ValueError):
    """What the user asked for cannot work; the message is one line that says why."""

    _render_traceback_ = _line


class RunError(RuntimeError):
    """A run that has to stop; the message is one line that says why, and what is saved.

    code: the exit code. stuck: a thread waits for what may never come, and cannot be ended.
    """

    _render_traceback_ = _line

    def __init__(self, message: str, code: int = 1, stuck: bool = False):
        super().__init__(message)
        self.code, self.stuck = code, stuck


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and has saved: by ctrl-C, SIGTERM, or the stop button of a
    notebook. The same call or command resumes at `step`."""

    _render_traceback_ = _line

    def __init__(self, signal: signal.Signals, step: int):
        super().__init__(f"{signal.name}: saved at step {step}; the same call goes on")
        self.signal, self.step = signal, step
