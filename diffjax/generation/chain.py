"""Engines in a chain: each sample passes to the next engine as soon as its stage has finished."""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from diffjax import checks
from diffjax.arrays import taken
from diffjax.generation.cascade import Cascade
from diffjax.generation.engine import Engine, Full, Stats
from diffjax.generation.job import Job
from diffjax.generation.tickets import Event, Notify, Ticket

MANY = 2**31 - 1
"""The limit of later engines: what may wait there was admitted by the first one."""


class Chain:
    """An engine for each stage of a cascade, with the interface of one engine.

    A program has one shape; a chain has one for each stage. Samples need not wait for each other
    between the stages. Their bits are those of the same chain alone, with equal groups.

    cascade: that of the network; those of requests may differ as the jobs of an engine may. slots,
    group, mesh: those of each engine. limit: the number of samples that may wait for the first one.

        cascade = diffjax.cascade(["runs/small", "runs/large"])
        with Chain(cascade.job(), slots=8) as chain:
            ticket, = chain.submit(cascade.job(label=3, steps=20), 1)
            ticket.result()  # the image of the last stage

    >>> from diffjax import builder, config
    >>> from diffjax.runs.trained import Trained
    >>> e = builder.experiment(config.override(config.load("moons_vp"), ["network.width=8"]))
    >>> job = Trained(e.denoiser(e.parameters()), e).job(steps=5)
    >>> with Chain(Cascade((job,)), slots=2) as chain:
    ...     [ticket.result().shape for ticket in chain.submit(Cascade((job,)), num=3)]
    [(2,), (2,), (2,)]
    """

    def __init__(
        self,
        cascade: Cascade,
        slots: int = 8,
        limit: int = 1024,
        mesh: Mesh | None = None,
        group: int | None = None,
    ):
        first, *later = map(_template, cascade.jobs)
        engine = functools.partial(Engine, slots=slots, mesh=mesh, group=group)
        self.engines = [engine(first, limit=limit)]
        try:
            self.engines += [engine(job, limit=MANY) for job in later]
        except BaseException:
            self.close(drain=False)
            raise

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(drain=kind is None)

    @property
    def slots(self) -> int:
        """The slots of each engine."""
        return self.engines[0].slots

    @property
    def open(self) -> bool:
        """Whether all engines take requests."""
        return all(engine.open for engine in self.engines)

    @property
    def broken(self) -> bool:
        """Whether a failure of the device has stopped an engine."""
        return any(engine.broken for engine in self.engines)

    @property
    def stats(self) -> Stats:
        """The counts of the engines: sums, and the samples that ended in the last one."""
        each = [engine.stats for engine in self.engines]
        whole = Stats(*(sum(values) for values in zip(*each, strict=True)))
        return whole._replace(done=each[-1].done)

    def check(self, cascade: Cascade) -> None:
        """Raise ValueError for a cascade that these engines cannot compute."""
        if len(cascade.jobs) != len(self.engines):
            raise ValueError(f"{len(cascade.jobs)} stages; needs {len(self.engines)}")
        for engine, job in zip(self.engines, map(_template, cascade.jobs), strict=True):
            engine.check(job)

    def passes(self, cascade: Cascade) -> int:
        """Return the network passes of one sample, in all stages."""
        pairs = zip(self.engines, cascade.jobs, strict=True)
        return sum(engine.passes(job) for engine, job in pairs)

    def submit(
        self, cascade: Cascade, num: int | None = None, every: int = 0, notify: Notify | None = None
    ) -> list[Ticket]:
        """Queue samples 0, ..., num - 1 of a cascade, and return their tickets; see `Engine`.

        A ticket counts the rows of all stages. Previews are those of the stage that is computed,
        but for latents that a later stage enlarges.
        """
        listed = cascade.jobs[0].listed.values()
        num = max(map(len, listed), default=1) if num is None else num
        checks.whole(1, num=num)
        checks.whole(0, every=every)
        self.check(cascade)
        cascade.check(num)
        waiting, limit = self.engines[0].stats.waiting, self.engines[0].limit
        if waiting + num > limit:
            raise Full(f"{waiting} samples wait; {num} more exceed {limit}")
        job = replace(cascade.last, cond=cascade.cond)
        rows = sum(job.plan.rows or 0 for job in cascade.jobs)
        parts = [_parted(job, num) for job in cascade.jobs]
        numbers = [part.index[0] for part in parts[0]]
        samples = [
            _Sample([of[k] for of in parts], Ticket(job, numbers[k], rows, every, notify))
            for k in range(num)
        ]
        try:
            for sample in samples:
                self._begin(sample)
        except (Full, RuntimeError):  # others were faster, or the engines are being closed
            for sample in samples:
                sample.ticket.cancel()
            raise
        return [sample.ticket for sample in samples]

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more requests, and stop once those that wait or run have ended; see `Engine`."""
        for engine in self.engines:  # what leaves an engine has entered the next one
            engine.close(drain=drain, timeout=timeout)

    def _begin(self, sample: _Sample) -> None:
        """Queue the next stage of a sample."""
        whole, engine, job = sample.ticket, self.engines[sample.stage], sample.jobs[sample.stage]
        told = functools.partial(self._told, sample)
        with sample.lock:  # the stage may end before its ticket is stored
            stage = sample.stage
            (part,) = engine.submit(job, 1, whole.every, told)
            if sample.stage == stage:
                whole.part = part
        if whole.cancelled:  # meanwhile
            part.cancel()

    def _told(self, sample: _Sample, part: Ticket, event: Event | None) -> None:
        """Hand on an event of a stage; after the last one, begin the next stage or end."""
        whole = sample.ticket
        if event is not None:
            whole.entered = part.entered if math.isnan(whole.entered) else whole.entered
            whole.row += 1
            kind, last = (job.decoding.stored.kind for job in (part.job, whole.job))
            whole.put(Event(whole.row, whole.rows, event.x0 if kind == last else None))
            return
        try:
            item = part.result(0)
            with sample.lock:
                sample.stage += 1
            if sample.stage == len(sample.jobs):
                whole.end(item)
                return
            after = sample.jobs[sample.stage]
            assert after.low
            sample.jobs[sample.stage] = replace(after, low=after.low.of(item[None]))
            self._begin(sample)
        except BaseException as error:
            whole.end(error)


@dataclass(eq=False)
class _Sample:
    """A sample on its way: its job in each stage, its ticket, and the stage that is computed."""

    jobs: list[Job]
    ticket: Ticket
    stage: int = 0
    lock: Any = field(default_factory=threading.RLock)


def _template(job: Job) -> Job:
    """Return a job with one smaller item, also where that is still to be generated."""
    if job.low is None or len(job.low.items):
        return job
    return replace(job, low=job.low.of(np.zeros((1, *job.low.form.shape), job.low.form.dtype)))


def _parted(job: Job, num: int) -> list[Job]:
    """Return a job for each of `num` samples of a job."""
    asked, cond = job.requests(num), taken(job.cond, num)
    seeds = np.broadcast_to(asked["seed"], num)
    index = np.arange(num) if asked["index"] is None else asked["index"]
    parts = []
    for k in range(num):
        low = job.low
        if low is not None:
            items = low.items[k % len(low.items)][None] if len(low.items) else low.items
            low = replace(low, items=items, tau=(low.tau[k % len(low.tau)],))
        weight, start = asked["weight"], asked["x0"]
        of_sample = {
            "seed": int(seeds[k]),
            "index": (int(index[k]),),
            "weight": () if weight is None else (float(weight[k]),),
            "start": None if start is None else start[k : k + 1],
            "cond": {name: rows[k : k + 1] for name, rows in cond.items()},
        }
        parts.append(replace(job, prompts=(), low=low, **of_sample))
    return parts
