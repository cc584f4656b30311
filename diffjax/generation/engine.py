"""An engine: requests for single samples that join and leave one running batch at any row.

A batch sampler makes a request wait until the batch before it ends. Here S slots advance together,
one row of their tables at a time, so a request waits for a free slot only. Requests differ in their
sampler, number of steps, guidance weight, seed and conditions. The sample of a request has equal
bits whatever runs beside it.
"""

from __future__ import annotations

import collections
import functools
import queue
import threading
import time
import traceback
from collections import deque
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffjax import checks
from diffjax.arrays import jit_leaves, spread, stream
from diffjax.codecs.sketch import Sketch
from diffjax.generation.job import Job
from diffjax.generation.tickets import Event, Notify, Ticket, planned, tickets
from diffjax.guidance import Conditional, Guidance, Guided
from diffjax.prediction import Denoise
from diffjax.progress import compiling
from diffjax.samplers import slots as slot
from diffjax.samplers.run import check

AHEAD = 2
"""Number of rows that the host hands over before it waits for the device."""


class Full(Exception):
    """The queue of an engine is full."""


class Stats(NamedTuple):
    """Counts of an engine since its start: ticks, rows of samples, and samples by their ends.

    A tick is a row of a group of slots. waiting, running: the numbers of samples now.
    """

    ticks: int
    rows: int
    done: int
    failed: int
    cancelled: int
    waiting: int
    running: int


class Engine:
    """Slots that compute the samples of jobs of one network, row by row, in a thread of their own.

    job: a job of the network; those of the requests have its network, its process, and its guidance
    or none, and may have any sampler whose rows are linear, any number of steps, seed, conditions,
    guidance weight, negative conditions and kept part of an image (`Inpainted`). slots: the number
    of samples computed side by side. group: the number of slots that one program computes, by
    default all. A row of a group costs a network pass of that batch, also where slots of it are
    idle, and all passes of guidance where the job is guided; a group without samples costs nothing.
    Samples have equal bits in engines of equal groups, and differ from those of `Job.samples` by
    rounding. limit: the number of samples that may wait. mesh: the devices that share a group, by
    default one; the size of a group is rounded up to a multiple of their number, and the number of
    slots to one of groups. The attribute `sketch` may be set to a `Sketch`, which then makes the
    previews of latents. Raises ValueError for adaptive steps, and for a group beyond all slots.

        engine = Engine(trained.job(), slots=8)
        ticket, = engine.submit(trained.job(label=3, steps=20, seed=5))
        ticket.result()  # the image, uint8 (H, W, C)

    >>> from diffjax import builder, config
    >>> from diffjax.runs.trained import Trained
    >>> e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    >>> trained = Trained(e.denoiser(e.parameters()), e)
    >>> with Engine(trained.job(), slots=2) as engine:
    ...     tickets = engine.submit(trained.job(label=1, steps=5), num=3)
    ...     [ticket.result().shape for ticket in tickets]
    [(2,), (2,), (2,)]
    """

    def __init__(
        self,
        job: Job,
        slots: int = 8,
        limit: int = 1024,
        mesh: Mesh | None = None,
        group: int | None = None,
    ):
        group = slots if group is None else group
        checks.whole(1, slots=slots, limit=limit, group=group)
        if group > slots:
            raise ValueError(f"group={group}: needs at most slots={slots}")
        table, mesh = planned(job).table, mesh or Mesh(jax.local_devices()[:1], "data")
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self.group = -(-group // mesh.size) * mesh.size
        self.slots, self.limit, self._job = -(-slots // self.group) * self.group, limit, job
        self._rows = slot.Rows(table.nodes.shape[1], table.learned, table.leads)
        self._guidance: Guidance = slot.common(planned(job).guidance).steady()
        self._idle = slot.idle(self._rows, table)
        # Texts of a data set have one length, which the form does not state.
        cond = {k: jnp.asarray(v) for k, v in job.conditions(1).items()}
        empty = lambda: slot.empty(self.group, self._guidance, job.form.shape, cond)
        self._groups = [spread(empty(), self._split) for _ in range(self.slots // self.group)]
        leaves, structure = jax.tree.flatten((job.denoise, self._guidance))
        leaves = spread(leaves, NamedSharding(mesh, PartitionSpec()))
        split = {"donate_argnums": 1, "out_shardings": self._split}
        self._enter = functools.partial(jit_leaves(slot.enter, structure, **split), leaves)
        tick = functools.partial(_tick, rows=self._rows)
        self._tick = functools.partial(jit_leaves(tick, structure, **split), leaves)
        self._places: list[Ticket | None] = [None] * self.slots
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._closed, self._broken = False, ""
        self.sketch: Sketch | None = None
        self._counts = dict.fromkeys(Stats._fields, 0)
        with compiling("the engine"):
            self._compile(cond)
        self._delivered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=f, name=f"engine-{f.__name__}", daemon=True)
            for f in (self._compute, self._deliver)
        ]
        for thread in self._threads:
            thread.start()

    def _compile(self, cond: dict[str, Any]) -> None:
        """Compile the programs, by a sample in the first slot and a row without any."""
        nothing = {name: np.asarray(values[0]) for name, values in cond.items()}
        start = np.zeros(self._job.form.shape, np.float32)
        first = np.float32(planned(self._job).table.t[0])
        key, number = stream(0, "sample"), np.int32(0)
        own = slot.own(planned(self._job).guidance, nothing, start.shape)
        self._put(0, key, number, nothing, own, first, start, False)
        jax.block_until_ready(self._advance_group(0))
        registers = self._groups[0].registers
        jax.block_until_ready(_at((registers.x, registers.bad), 0))

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self.close(drain=kind is None)

    @property
    def open(self) -> bool:
        """Whether the engine takes requests."""
        return not self._closed

    @property
    def broken(self) -> bool:
        """Whether a failure of the device has stopped the engine."""
        return bool(self._broken)

    @property
    def stats(self) -> Stats:
        """The counts of the engine."""
        with self._changed:
            now = {"waiting": len(self._waiting), "running": self._running()}
            return Stats(**(self._counts | now))

    def check(self, job: Job) -> None:
        """Raise ValueError for a job that this engine cannot compute."""
        plan, own = planned(job), planned(self._job)
        if not _same(job.denoise, self._job.denoise):
            raise ValueError("the request is for another network than that of the engine")
        # A row of weight 1 is the conditional prediction, unless something is wrapped around it.
        ours, theirs = slot.common(own.guidance), slot.common(plan.guidance)
        unguided = theirs == Conditional() and isinstance(ours, Guided)
        if not (unguided or _same(theirs, ours)):
            raise ValueError(
                f"the request has the guidance {theirs}; allowed: that of the engine, {ours}, with "
                f"any weight and any negative conditions"
            )
        if job.form != self._job.form:
            raise ValueError(f"the request is for {job.form}; the engine has {self._job.form}")
        ours, theirs = (_rows(j.cond) for j in (self._job, job))
        if ours != theirs:
            raise ValueError(f"the request has the conditions {theirs}; the engine has {ours}")
        self._rows.check(plan.table)

    def passes(self, job: Job) -> int:
        """Return the network passes of one sample of a job in this engine."""
        return self._guidance.passes(np.ones(len(planned(job).table)))

    def submit(
        self,
        job: Job,
        num: int | None = None,
        every: int = 0,
        notify: Notify | None = None,
    ) -> list[Ticket]:
        """Queue samples 0, ..., num - 1 of a job, and return their tickets.

        num: by default as many as the longest list of seeds, indices or weights, or 1. every: the
        number of rows between two events with a preview; 0 for events without previews. notify: see
        `Ticket`. Raises ValueError as `check` does, Full where too many samples wait, and
        RuntimeError for a closed engine.
        """
        num = max(map(len, job.listed.values()), default=1) if num is None else num
        checks.whole(1, num=num)
        checks.whole(0, every=every)
        self.check(job)
        job.check(num)
        queued = tickets(job, num, self._rows, every, notify)
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the engine is closed{self._broken}")
            self._forget()
            if len(self._waiting) + num > self.limit:
                raise Full(f"{len(self._waiting)} samples wait; {num} more exceed {self.limit}")
            self._waiting.extend(queued)
            self._changed.notify()
        return queued

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more requests, and stop once those that wait or run have ended.

        drain: whether to compute them; otherwise they are cancelled.
        """
        with self._changed:
            self._closed = True
            for ticket in () if drain else (*self._waiting, *filter(None, self._places)):
                ticket.cancel()
            self._changed.notify()
        for thread in self._threads:
            thread.join(timeout)

    def _running(self) -> int:
        return sum(ticket is not None for ticket in self._places)

    def _compute(self) -> None:
        """Advance the slots until the engine is closed and empty."""
        computed: deque[Any] = deque()
        try:
            while self._admit():
                computed.append(self._advance())
                if len(computed) > AHEAD:
                    jax.block_until_ready(computed.popleft())
        except BaseException as error:  # of the device or the compiler: nothing more can be done
            traceback.print_exc()
            self._fail(error)
        self._delivered.put(None)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._closed, self._broken = True, f": {error}"
            tickets = [*filter(None, self._places), *self._waiting]
            self._places, self._waiting = [None] * self.slots, deque()
        for ticket in tickets:
            ticket.end(RuntimeError(f"the engine failed: {error}"))

    def _admit(self) -> bool:
        """Free the slots of cancelled requests, fill free ones; wait while all are idle.

        The result is false once the engine is closed and nothing is left to do.
        """
        with self._changed:
            while True:
                for place, ticket in enumerate(self._places):
                    if ticket and ticket.cancelled:
                        self._places[place] = None
                        self._cancel(ticket)
                self._forget()
                entered = []
                for place in self._free() if self._waiting else ():
                    if self._waiting:
                        ticket = self._waiting.popleft()
                        self._places[place] = ticket
                        ticket.entered = time.monotonic()
                        entered.append((place, ticket))
                if self._running() or self._closed:
                    break
                self._changed.wait()
        for place, ticket in entered:
            self._put(place, *ticket.arguments)
        return self._running() > 0

    def _free(self) -> list[int]:
        """Return the free places, those of the fullest group first."""
        free = [place for place, ticket in enumerate(self._places) if ticket is None]
        counts = collections.Counter(place // self.group for place in free)
        return sorted(free, key=lambda place: (counts[place // self.group], place))

    def _put(self, place: int, *arguments: Any) -> None:
        """Put a sample into its place."""
        group, place = divmod(place, self.group)
        self._groups[group] = self._enter(self._groups[group], place, *arguments)

    def _forget(self) -> None:
        """End the cancelled requests among those that wait, whether or not a slot is free."""
        if any(ticket.cancelled for ticket in self._waiting):
            cancelled = [ticket for ticket in self._waiting if ticket.cancelled]
            self._waiting = deque(ticket for ticket in self._waiting if not ticket.cancelled)
            for ticket in cancelled:
                self._cancel(ticket)

    def _cancel(self, ticket: Ticket) -> None:
        self._counts["cancelled"] += not ticket.ended  # it may have failed
        ticket.end(CancelledError(f"sample {ticket.number} was cancelled"))

    def _advance(self) -> Any:
        """Compute one row of each sample; return an array that is ready when the device is done."""
        size, seen = self.group, None
        for group in range(len(self._groups)):
            if any(self._places[group * size : (group + 1) * size]):
                seen = self._advance_group(group)
        return seen

    def _advance_group(self, group: int) -> Any:
        """Compute one row of each sample in a group."""
        first = group * self.group
        tickets = self._places[first : first + self.group]
        at = [self._idle if t is None else [leaf[t.row] for leaf in t.leaves] for t in tickets]
        leaves = [np.stack(values) for values in zip(*at, strict=True)]
        index = np.array([0 if t is None else t.row for t in tickets], np.int32)
        rows = spread((leaves, index), self._split)
        self._groups[group], seen = self._tick(self._groups[group], *rows)
        running = sum(ticket is not None for ticket in tickets)
        with self._changed:
            self._counts["ticks"] += running > 0
            self._counts["rows"] += running
        for place, ticket in enumerate(tickets):
            if ticket is None:
                continue
            ticket.row += 1
            ended = ticket.row == ticket.rows
            shown = ticket.every and (ticket.row % ticket.every == 0 or ended)
            x0 = _at(seen, place) if shown else None
            registers = self._groups[group].registers
            last = _at((registers.x, registers.bad), place) if ended else None
            if ended:
                self._places[first + place] = None
            self._delivered.put((ticket, ticket.row, x0, last))
        return seen

    def _deliver(self) -> None:
        """Hand events and results to the tickets, so that the device does not wait for decoding."""
        while (delivery := self._delivered.get()) is not None:
            ticket, row, x0, last = delivery
            try:
                ticket.put(Event(row, ticket.rows, None if x0 is None else self._seen(ticket, x0)))
                if last is not None:
                    check(last[1], planned(ticket.job).table)
                    item = ticket.item(last[0][0])
                    self._count("done")
                    ticket.end(item)
            except Exception as error:
                self._count("failed")
                ticket.end(error)
                ticket.cancel()

    def _seen(self, ticket: Ticket, x0: Any) -> np.ndarray:
        """Return a preview, by the sketch of latents where there is one."""
        return ticket.item(x0) if self.sketch is None else self.sketch(np.asarray(x0)[None])[0]

    def _count(self, name: str) -> None:
        with self._changed:
            self._counts[name] += 1


def _tick(
    denoise: Denoise, guidance: Guidance, slots: slot.Slots, leaves: Any, index: Any, *, rows: Any
) -> Any:
    return slot.tick(denoise, guidance, rows, slots, leaves, index)


@jax.jit
def _at(tree: Any, place: Any) -> Any:
    """Return what is in one slot, a copy: the next row reuses the memory of the slots."""
    return jax.tree.map(lambda a: a[place], tree)


def _rows(cond: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of one row of each condition."""
    return {name: np.shape(rows)[1:] for name, rows in sorted(cond.items())}


def _same(one: Any, other: Any) -> bool:
    """Return whether two trees have one structure and equal arrays."""
    if one is other:
        return True
    (ours, of_ours), (theirs, of_theirs) = map(jax.tree.flatten, (one, other))
    equal = lambda a, b: a is b or np.array_equal(np.asarray(a), np.asarray(b))
    return of_ours == of_theirs and all(map(equal, ours, theirs))
