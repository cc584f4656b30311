"""Requests to an engine: what each sample needs in its slot, its events and its result."""

from __future__ import annotations

import math
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from diffjax.arrays import stream
from diffjax.generation.job import Job
from diffjax.samplers import slots as slot
from diffjax.samplers.plan import Plan
from diffjax.samplers.table import Table


class Event(NamedTuple):
    """What happened to a request: `row` of `rows` are computed.

    x0: the predicted sample as a stored item, (*shape), or the sketch of a latent, or None.
    """

    row: int
    rows: int
    x0: np.ndarray | None = None


@dataclass(eq=False)
class Ticket:
    """A request for one sample: its events, its result, and its cancellation.

    number: of the sample in its run. rows: how many it takes; row: how many are computed. every:
    the rows between two previews, 0 for none. notify: called with the ticket and each event, and
    with None at the end, by the threads of the engine; then `events` yields nothing, so that nobody
    keeps the previews. What it raises is printed and ends nothing else. submitted, entered: the
    times at which it was queued and got a slot, as `time.monotonic` counts; entered is NaN before.
    part: of a chain, the request of the stage that is computed.
    """

    job: Job = field(repr=False)
    number: int
    rows: int
    every: int = 0
    notify: Notify | None = field(default=None, repr=False)
    leaves: list[np.ndarray] = field(default_factory=list, repr=False)
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    row: int = 0
    submitted: float = field(default_factory=time.monotonic, repr=False)
    entered: float = field(default=math.nan, repr=False)
    _events: queue.SimpleQueue[Event | None] = field(
        default_factory=queue.SimpleQueue, repr=False, init=False
    )
    _ended: threading.Event = field(default_factory=threading.Event, repr=False, init=False)
    _item: np.ndarray | None = field(default=None, repr=False, init=False)
    _error: BaseException | None = field(default=None, repr=False, init=False)
    cancelled: bool = field(default=False, init=False)
    part: Ticket | None = field(default=None, repr=False, init=False)

    def events(self) -> Iterator[Event]:
        """Yield the events of the request until it ends, for one reader."""
        while (event := self._events.get()) is not None:
            yield event

    def result(self, timeout: float | None = None) -> np.ndarray:
        """Return the stored item, (*shape), once it is there.

        timeout: in seconds. Raises TimeoutError after it, CancelledError for a cancelled request,
        FloatingPointError where the network's output was not finite, and RuntimeError where the
        engine failed.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"sample {self.number} is not there after {timeout:g} s")
        if self._error is not None:
            raise self._error
        assert self._item is not None
        return self._item

    @property
    def ended(self) -> bool:
        """Whether the result, or the error, is there."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Give up the request, unless it ended already; its slot is free at the next row."""
        self.cancelled = True
        if self.part is not None:
            self.part.cancel()

    def end(self, outcome: np.ndarray | BaseException) -> None:
        """Set the result or the error, once."""
        if self._ended.is_set():
            return
        self._error = outcome if isinstance(outcome, BaseException) else None
        self._item = None if isinstance(outcome, BaseException) else outcome
        self._ended.set()
        self.put(None)

    def put(self, event: Event | None) -> None:
        """Hand an event to `notify`, or else to the reader of `events`, until the request ends."""
        if event is not None and self.ended:
            return
        if self.notify is None or event is None:
            self._events.put(event)
        try:
            if self.notify:
                self.notify(self, event)
        except Exception:  # a caller's mistake must not stop the engine for all
            traceback.print_exc()

    def item(self, x: Any) -> np.ndarray:
        """Return a sample of the network as a stored item, (*shape)."""
        _, _, cond, *_ = self.arguments
        stored = self.job.decoding(np.asarray(x)[None])
        given = {name: value[None] for name, value in cond.items()}
        return self.job.form.completed(stored, given)[0]


Notify = Callable[[Ticket, Event | None], None]


def planned(job: Job) -> Plan:
    """Return the plan of a job. Raises ValueError for one without a table, and for watermarks."""
    if job.watermark:
        raise ValueError("an engine does not mark samples; allowed: jobs without a watermark")
    if not isinstance(job.plan, Plan):
        raise ValueError(f"{job.plan.tableless}; an engine needs the rows of a table")
    return job.plan


def tickets(
    job: Job, num: int, rows: slot.Rows, every: int = 0, notify: Notify | None = None
) -> list[Ticket]:
    """Return a ticket for each of `num` samples of a job, whose rows suit `rows`."""
    asked, cond = job.requests(num), job.conditions(num)
    seeds = np.broadcast_to(asked["seed"], num)
    index = np.arange(num) if asked["index"] is None else asked["index"]
    plan, made = planned(job), []
    shared = rows.of(plan.table)
    for k in range(num):
        leaves = shared
        if asked["weight"] is not None:
            leaves = rows.of(weighted(plan, float(asked["weight"][k])))
        start = np.zeros(job.form.shape, np.float32) if asked["x0"] is None else asked["x0"][k]
        mine = {name: np.asarray(values[k]) for name, values in cond.items()}
        key, number = stream(int(seeds[k]), job.stream), np.int32(index[k])
        first = np.float32(plan.table.t[0])
        own = slot.own(plan.guidance, mine, job.form.shape)
        arguments = key, number, mine, own, first, start, asked["x0"] is not None
        more = {"every": every, "notify": notify, "leaves": leaves, "arguments": arguments}
        made.append(Ticket(job, int(number), len(plan.table), **more))
    return made


def weighted(plan: Plan, weight: float) -> Table:
    """Return the table of a plan with one guidance weight, (R,)."""
    table = plan.weighted(np.array([weight])).table
    return replace(table, weight=table.weight[:, 0])
