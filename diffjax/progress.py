"""Progress of long tasks: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from tqdm import tqdm

LONG = 5.0
"""Seconds after which a task without any output prints a line at its end."""
SOON, STEP = 3.0, 1.0
"""Seconds of compilation before the first line on a terminal, and between two such lines."""


def many(count: int, noun: str) -> str:
    """Return a number of things in words.

    >>> many(1, "video"), many(2, "video")
    ('1 video', '2 videos')
    """
    return f"{count} {noun}" + "s" * (count != 1)


@contextmanager
def compiling(name: str, *, quiet: bool = False) -> Iterator[None]:
    """Show that `name` is being compiled, and on a terminal also the time that this has taken.

    There one line is rewritten each second, from the third on, and erased at the end. Elsewhere one
    line is printed after three seconds. quiet: see `Progress`.
    """
    err, began, ended = sys.stderr, time.monotonic(), threading.Event()

    def tell() -> None:
        wait = SOON
        if not err.isatty():
            if not ended.wait(wait):
                print(f"compiling {name} ...", file=err, flush=True)
            return
        while not ended.wait(wait):
            wait = STEP
            spent = time.monotonic() - began
            print(f"\r\x1b[Kcompiling {name} ... {spent:.0f} s", end="", file=err, flush=True)
        if wait == STEP:
            print("\r\x1b[K", end="", file=err, flush=True)

    if quiet:
        yield
        return
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Progress:
    """The display of a task that counts up to `total`, with its rate, time left and metrics.

    name: the name of the task. unit: the name of what is counted. start: the initial count. quiet:
    show nothing, as in all but the first of several processes. lines: without a terminal, the
    number of seconds without other output after which a line shows the progress.
    """

    def __init__(
        self,
        name: str,
        total: int,
        unit: str,
        start: int = 0,
        *,
        quiet: bool = False,
        lines: float = math.inf,
    ):
        # A terminal that knows no width (0 columns) would show an empty bar.
        err = sys.stderr
        self._terminal = err.isatty() and os.get_terminal_size(err.fileno()).columns > 0
        self._bar = tqdm(
            total=total,
            initial=start,
            desc=name,
            unit=unit,
            disable=quiet or not self._terminal,
            dynamic_ncols=True,
        )
        self._name, self._total, self._unit = name, total, unit
        self._start, self._count, self._began = start, start, time.monotonic()
        self._said, self._quiet = quiet, quiet
        self._lines, self._spoke = lines, self._began

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        spent = time.monotonic() - self._began
        if not (self._terminal or self._said) and spent > LONG:
            done = f"{self._count}/{self._total} {self._unit}"
            print(f"{self._name} {done} in {tqdm.format_interval(spent)}", file=sys.stderr)

    def advance(self, n: int = 1) -> None:
        """Count `n` more units."""
        self._count += n
        self._bar.update(n)
        if not self._terminal and time.monotonic() - self._spoke > self._lines:
            self.show({})

    def show(self, metrics: Mapping[str, float]) -> None:
        """Show metrics beside the bar, or as a line where there is no terminal."""
        if self._quiet:
            return
        self._spoke = time.monotonic()
        text = {k: f"{v:.4g}" for k, v in metrics.items()}
        if self._terminal:
            self._bar.set_postfix(text)
            return
        self._said = True
        done, spent = self._count - self._start, time.monotonic() - self._began
        left = spent / max(done, 1) * (self._total - self._count)
        shown = "".join(f"  {k} {v}" for k, v in text.items())
        where = f"{self._count}/{self._total} {self._unit}"
        print(f"{self._name} {where}{shown}  left {tqdm.format_interval(left)}", file=sys.stderr)
