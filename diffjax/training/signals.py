"""Handling of SIGTERM and ctrl-C as requests to stop after the running step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """A context in which the first signal is recorded and the second one stops the process.

    The first signal sets `received`. After the second signal the process exits at once with code
    128 + its number, even while it waits. In a notebook or at a prompt the second signal raises
    KeyboardInterrupt instead, so that variables survive.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._interactive, self._count = hasattr(sys, "ps1"), 0

    def __enter__(self) -> Signals:
        # Python runs handlers between bytecodes, and so never while it waits for a long step. The
        # interpreter therefore writes the numbers of signals to a pipe, which a thread reads.
        read, write = os.pipe()
        os.set_blocking(write, False)
        self._ends = read, write
        self._before = {s: signal.signal(s, self._handle) for s in STOPPING}
        self._woken = signal.set_wakeup_fd(write)
        self._thread = threading.Thread(target=self._listen, args=(read,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._woken)
        for s, handler in self._before.items():
            signal.signal(s, handler)
        read, write = self._ends
        os.close(write)
        self._thread.join()
        os.close(read)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._interactive and self._count > 1:
            raise KeyboardInterrupt

    def _listen(self, read: int) -> None:
        while number := os.read(read, 1):
            if number[0] not in STOPPING:
                continue
            if self.received and self._interactive:
                continue
            if self.received:
                os._exit(128 + number[0])
            self.received = signal.Signals(number[0])
            text = (
                f"\n{self.received.name}: saving after the running steps; "
                f"a second signal exits at once\n"
            )
            os.write(2, text.encode())  # print may be in the middle of a line
