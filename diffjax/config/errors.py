"""Errors that a user can correct, and errors of runs that stop, each with a message of one line."""

from __future__ import annotations

import signal


def _line(error: BaseException) -> list[str]:
    """Return the traceback that a notebook shows: the message alone, without the calls."""
    return [f"{type(error).__name__}: {error}"]


class ConfigError(ValueError):
    """An error in the user's request; the message is one line that states the reason.

    >>> ConfigError("config.seed=-1: needs 0 <= seed < 2**32")
    ConfigError('config.seed=-1: needs 0 <= seed < 2**32')
    """

    _render_traceback_ = _line


class RunError(RuntimeError):
    """An error that forces a run to stop; the message is one line with its cause and what is saved.

    code: the exit code. stuck: True if a thread is blocked, possibly forever, and cannot be
    stopped.

    >>> RunError("the disk is full; saved at step 500").code
    1
    """

    _render_traceback_ = _line

    def __init__(self, message: str, code: int = 1, stuck: bool = False):
        super().__init__(message)
        self.code, self.stuck = code, stuck


class Stopped(KeyboardInterrupt):
    """The error of a run that was interrupted and has saved a checkpoint.

    The interruption is ctrl-C, SIGTERM, or the stop button of a notebook. The same call or command
    resumes at `step`.

    >>> str(Stopped(signal.SIGTERM, 500))
    'SIGTERM: saved at step 500; the same call resumes'
    """

    _render_traceback_ = _line

    def __init__(self, signal: signal.Signals, step: int):
        super().__init__(f"{signal.name}: saved at step {step}; the same call resumes")
        self.signal, self.step = signal, step
