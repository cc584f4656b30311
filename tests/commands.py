"""Runners for the commands of a user, in this process or in a separate one."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest

from diffjax import cli

TINY = (
    "network={'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2}",  # compiles fast
    "train.batch_size=16",
    "train.steps_per_dispatch=3",
    "train.steps=6",
    "train.checkpoint_every=3",
    "train.log_every=3",
    "train.sample_every=99",
    "train.samples=4",
    "sampling.steps=3",
)
"""A run on digits that takes seconds."""


@contextmanager
def one_device() -> Iterator[None]:
    """Let commands in this process see one device.

    Programs for several devices take twice as long to compile. With one device this process and
    separate processes also share their compilation cache.
    """
    one = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda backend=None: one)
        yield


def process(command: str, *flags, stderr=subprocess.PIPE) -> subprocess.CompletedProcess:
    """Run a command in a separate process."""
    line = [sys.executable, "-m", f"diffjax.{command}", *map(str, flags)]
    made = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
    return subprocess.run(line, **made, timeout=300)


def ended(monkeypatch: pytest.MonkeyPatch, command: str, *flags) -> int:
    """Run a command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        cli.main(importlib.import_module(f"diffjax.{command}").run)
    return end.value.code
