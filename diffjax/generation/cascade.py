"""Jobs in a chain, in which each enlarges the samples of the job before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.codecs import Decoding
from diffjax.config import ConfigError
from diffjax.generation.generated import Generated
from diffjax.generation.job import Job
from diffjax.io.trees import fingerprint
from diffjax.samplers.run import Preview

Finished = Callable[[int, Generated], None]
"""Called with the number of a stage, from 0, and its samples, as soon as these exist."""


@dataclass(frozen=True)
class Cascade:
    """A chain of jobs with the interface of a job; one job alone is a chain too.

    jobs: the first generates small items, and each other one has `low`, whose items become those of
    the job before it. Sample k depends on its seed, its conditions and k only, in every stage; each
    size has its own random stream. Items are rounded to their stored type between two stages, as if
    they had been written to a file. Raises ConfigError for no job, for a later job that enlarges
    nothing, and for sizes or kinds that do not match.

        job = diffjax.cascade(["runs/small", "runs/large"]).job(steps=30)
        job.samples(16).picture()  # uint8 (H, W, 3)

    >>> Cascade(())
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: cascade: needs at least one run
    """

    jobs: tuple[Job, ...]

    def __post_init__(self):
        if not self.jobs:
            raise ConfigError("cascade: needs at least one run")
        for stage, (job, after) in enumerate(zip(self.jobs, self.jobs[1:], strict=False)):
            check(stage, job, after)

    @property
    def last(self) -> Job:
        """The job of the last stage."""
        return self.jobs[-1]

    @property
    def decoding(self) -> Decoding:
        """The function from samples of the last stage to stored items."""
        return self.last.decoding

    @property
    def cond(self) -> dict[str, np.ndarray]:
        """The conditions of all stages, by name, in rows (K, ...) that samples take in turn."""
        return {name: rows for job in reversed(self.jobs) for name, rows in job.cond.items()}

    @property
    def key(self) -> str:
        """Name of the chain: its last sampler, and a fingerprint of all that its samples need."""
        if len(self.jobs) == 1:
            return self.last.key
        name = self.last.about["sampler"]["name"]
        return f"{name}-{fingerprint([job.key for job in self.jobs], ())}"

    def __str__(self) -> str:
        return "\n".join(
            f"stage {i}: {job}" if len(self.jobs) > 1 else str(job)
            for i, job in enumerate(self.jobs, 1)
        )

    def check(self, num: int) -> None:
        """Raise ConfigError for lists with more values than samples."""
        for job in self.jobs:
            job.check(num)

    def protocol(self, samples: Generated) -> dict[str, Any]:
        """Return the protocol of samples: that of the last stage, and those of the others in turn.

        passes, seconds: the sums over all stages.
        """
        whole = self.last.protocol(samples)
        if len(self.jobs) == 1:
            return whole
        before = [dict(job.about) | {"weights": job.weights} for job in self.jobs[:-1]]
        passes = round(float(samples.passes.mean()), 1)
        return whole | {"passes": passes, "stages": before}

    def samples(
        self,
        num: int,
        folder: Path | None = None,
        *,
        previews: Sequence[Callable[[Preview], None] | None] = (),
        every: int | None = None,
        finished: Finished | None = None,
    ) -> Generated:
        """Return samples 0, ..., num - 1 of the last stage, generated stage after stage.

        folder: where the samples are stored, as in `Job.samples`; those of earlier stages are
        stored beside it, under the keys of their chains, for all chains that begin with them.
        previews: one function for each stage. finished: see `Finished`. passes and seconds of the
        result are sums over the stages.
        """
        watch = [*previews, *(None for _ in self.jobs[len(previews) :])]
        made: list[Generated] = []
        for stage, (job, preview) in enumerate(zip(self.jobs, watch, strict=True)):
            if stage:
                assert job.low
                job = replace(job, low=job.low.of(made[-1].x))
            place = folder
            if folder and job is not self.last and stage < len(self.jobs) - 1:
                place = folder.parent / Cascade(self.jobs[: stage + 1]).key
            made.append(job.samples(num, place, preview=preview, every=every))
            if finished:
                finished(stage, made[-1])
        cond = {name: value for part in reversed(made) for name, value in part.cond.items()}
        return made[-1]._replace(
            cond=cond, passes=sum(m.passes for m in made), seconds=sum(m.seconds for m in made)
        )


def check(stage: int, job: Job, after: Job) -> None:
    """Raise ConfigError unless the job `after` enlarges the samples of `job`, number `stage`."""
    place = f"stage {stage + 2} of the cascade"
    if after.low is None:
        raise ConfigError(
            f"{place}: was trained without config.data.enlarged, so it enlarges nothing"
        )
    makes, takes = job.decoding.stored, after.low.form
    if (makes.kind, makes.shape) != (takes.kind, takes.shape):
        raise ConfigError(
            f"{place}: enlarges {takes.items.noun}s {takes.shape}, and stage {stage + 1} generates "
            f"{makes.items.noun}s {makes.shape}"
        )
