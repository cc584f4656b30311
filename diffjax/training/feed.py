"""Batches made ready by a thread of their own, so that a wait for them can end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")
LOOK = 0.2
"""Seconds between two looks at whether to stop."""


class Stalled(Exception):
    """No item came in time; the message is the time waited."""


class Feed(Generic[T]):
    """The items of an iterator, made one ahead. limit: seconds to wait for one, 0 for any time.

    The thread cannot be ended while the iterator keeps it waiting.
    """

    def __init__(self, items: Iterator[T], limit: float = 0.0):
        self._items, self._limit = items, limit
        self._pool = ThreadPoolExecutor(1, "feed")
        self._next = self._pool.submit(next, items)

    def take(self, stopped: Callable[[], bool] = lambda: False) -> T:
        """The next item; what the iterator raises; or Stalled, where the limit is over or `stopped`
        is true while there is none."""
        began = time.monotonic()
        while not self._next.done():
            wait([self._next], timeout=LOOK)
            waited = time.monotonic() - began
            if not self._next.done() and (stopped() or 0 < self._limit < waited):
                raise Stalled(f"{waited:.1f} s")
        item = self._next.result()
        self._next = self._pool.submit(next, self._items, item)  # the last one again at the end
        return item

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
