"""Limits of a server: sizes of requests, and a budget of network passes for each client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from diffjax import checks


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    num: samples of one request. steps: of a sampler. waiting: samples in the queue. body: bytes of
    a request. seconds: for its body to arrive. passes: network passes per minute of each client, 0
    for any number; the cost of a request is its passes, not one. keys: the clients that are
    allowed, all if there are none. hosts: the names, in lower case, under which clients may reach
    the server, all if there are none.
    """

    num: int = 64
    steps: int = 1000
    waiting: int = 256
    body: int = 8 * 2**20
    seconds: float = 30.0
    passes: int = 0
    keys: frozenset[str] = field(default=frozenset(), repr=False)
    hosts: frozenset[str] = frozenset()

    def __post_init__(self):
        checks.positive(seconds=self.seconds)
        checks.whole(1, num=self.num, steps=self.steps, waiting=self.waiting, body=self.body)
        checks.whole(0, passes=self.passes)


class Budget:
    """A token bucket per client: `rate` tokens per second, up to `most`.

    clock: seconds. Buckets that are full again are forgotten.

    >>> now = [0.0]
    >>> budget = Budget(rate=2.0, most=10.0, clock=lambda: now[0])
    >>> budget.wait("anna", 10), budget.wait("anna", 4), budget.wait("bert", 4)
    (0.0, 2.0, 0.0)
    >>> now[0] = 2.0
    >>> budget.wait("anna", 4), budget.wait("anna", 11)
    (0.0, inf)
    """

    def __init__(self, rate: float, most: float, clock: Callable[[], float] = time.monotonic):
        self.rate, self.most, self.clock = rate, most, clock
        self._full_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, client: str, tokens: float) -> float:
        """Take tokens and return 0, or take none and return the seconds until they are there.

        The result is infinite for more tokens than a bucket holds.
        """
        if tokens > self.most:
            return float("inf")
        with self._lock:
            now = self.clock()
            self._full_at = {k: at for k, at in self._full_at.items() if at > now}
            after = max(self._full_at.get(client, now), now) + tokens / self.rate
            late = after - (now + self.most / self.rate)
            if late > 1e-9:
                return late
            self._full_at[client] = after
            return 0.0

    def give_back(self, client: str, tokens: float) -> None:
        """Put back tokens that were taken for a request that was refused afterwards."""
        with self._lock:
            self._full_at[client] = self._full_at.get(client, 0.0) - tokens / self.rate
