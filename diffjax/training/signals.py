"""SIGTERM and ctrl-C as a request to stop at the end of the running step."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Within the context the first signal is noted in `received`; the second acts at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> Signals:
        self._before = {s: signal.signal(s, self._note) for s in STOPPING}
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        text = f"\n{self.received.name}: saving after the running steps; once more ends at once\n"
        os.write(2, text.encode())  # print may be in the middle of a line
        for s in STOPPING:
            signal.signal(s, signal.SIG_DFL)
