"""Prefetching of batches in a separate thread, so that waiting for a batch can be interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")
LOOK = 0.2
"""Seconds between two checks of whether to stop waiting."""


class Stalled(Exception):
    """The error that no item arrived in time; the message is the time waited."""


class Feed(Generic[T]):
    """The items of an iterator, with one item prefetched by a thread.

    limit: the largest number of seconds to wait for an item, 0 for no limit. The thread cannot be
    stopped while the iterator blocks it.
    """

    def __init__(self, items: Iterator[T], limit: float = 0.0):
        self._items, self._limit = items, limit
        self._pool = ThreadPoolExecutor(1, "feed")
        self._next = self._pool.submit(next, items)

    def take(self, stopped: Callable[[], bool] = lambda: False) -> T:
        """Return the next item.

        stopped: a function that is polled while no item is ready. Raises Stalled once the limit has
        passed or `stopped` returns True, and any error of the iterator.
        """
        began = time.monotonic()
        while not self._next.done():
            wait([self._next], timeout=LOOK)
            waited = time.monotonic() - began
            if not self._next.done() and (stopped() or 0 < self._limit < waited):
                raise Stalled(f"{waited:.1f} s")
        item = self._next.result()
        # The default of `next`: an exhausted iterator repeats its last item.
        self._next = self._pool.submit(next, self._items, item)
        return item

    def close(self) -> None:
        """Shut the thread down without waiting for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
