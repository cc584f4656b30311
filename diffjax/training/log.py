"""Log of the metrics and pictures that a run writes during training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import jax
import numpy as np

from diffjax import plot
from diffjax.devices.processes import first
from diffjax.likelihood import EDGES
from diffjax.training.cost import Cost
from diffjax.training.writers import JSONL, Writer

SPEEDS = ("images_per_s", "tflops_per_s", "mfu")
"""Metrics that differ between repetitions of a run."""


class Log:
    """The log of a run, whose metrics stay on the device until written: no host sync per step.

    Only the first process writes. workdir, start: the folder of the run, and the step from which it
    resumes. batch_size: the number of items per step, for the throughput. writers: constructors
    `(workdir, start) -> Writer` of the writers besides metrics.jsonl. cost: the cost of a step, set
    once it is known.
    """

    cost: Cost | None = None

    def __init__(
        self,
        workdir: Path,
        start: int,
        batch_size: int,
        writers: Sequence[Callable[[Path, int], Writer]] = (),
    ):
        self._workdir = workdir
        self._pending: list[Mapping[str, jax.Array]] = []
        self._batch_size, self._began = batch_size, time.monotonic()
        makers = (JSONL, *writers) if first() else ()
        with ExitStack() as opened:
            self._writers = [opened.enter_context(closing(make(workdir, start))) for make in makers]
            self.close = opened.pop_all().close

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """Add the metrics of K steps, each (K, ...)."""
        self._pending.append(metrics)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent in this context from the throughput."""
        jax.block_until_ready(self._pending)
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def write(self, step: int) -> dict[str, float]:
        """Write and return the means over the steps since the last call, and the throughput.

        Skipped steps do not enter the means. If steps were skipped or were spikes, their numbers
        `skipped` and `spikes` are written, with a warning. A metric (K, 2, bins) holds sums and
        counts by log-SNR, and gives one mean per bin that is not empty.
        """
        rows = jax.device_get(self._pending)
        every = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
        num = len(next(iter(every.values())))
        flags = {k: every.pop(k, np.zeros(num, bool)) for k in ("skipped", "spikes")}
        for name, flag in flags.items():
            _tell(name, flag, every, step - num)
        taken = ~flags["skipped"]
        every = {k: v[taken] for k, v in every.items()} if taken.any() else {}
        means = {k: float(v.mean()) for k, v in every.items() if v.ndim == 1}
        for name, (total, count) in ((k, v.sum(0)) for k, v in every.items() if v.ndim > 1):
            heights = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
            filled = zip(EDGES, heights, count, strict=False)
            means |= {f"{name}/{low}": float(height) for low, height, n in filled if n}
            self._each("histograms", lambda w: w.histogram(step, name, EDGES, heights))  # noqa: B023
        now = time.monotonic()
        per_s = num / (now - self._began)
        rate = {"images_per_s": per_s * self._batch_size}
        rate |= self.cost.rates(per_s) if self.cost else {}
        self._pending, self._began = [], now
        shown = means | {k: float(v.sum()) for k, v in flags.items() if v.any()} | rate
        self.scalars(step, shown)
        return shown

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write these values unchanged."""
        self._each("metrics", lambda writer: writer.scalars(step, values))

    def picture(self, step: int, image: np.ndarray) -> None:
        """Write a picture to samples/step_*.png and to the writers that show pictures."""
        if not self._writers:
            return
        path = self._workdir / "samples" / f"step_{step:08d}.png"
        with tried(path):
            plot.save(path, image)
        self._each("pictures", lambda writer: writer.image(step, "samples", image))

    def _each(self, what: str, write: Callable[[Writer], None]) -> None:
        for writer in self._writers:
            with tried(f"{what} for {type(writer).__name__}"):
                write(writer)


@contextmanager
def tried(what: object) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into a warning of one line, and continue."""
    try:
        yield
    except OSError as error:
        logging.warning("%s: cannot be written (%s): training continues", what, error.strerror)


def _tell(name: str, flag: np.ndarray, every: Mapping[str, np.ndarray], start: int) -> None:
    """Warn of the first bad batch since the last line, and of the number of bad batches.

    name: `skipped` or `spikes`. flag: (K,), True for bad batches. start: the index of the first
    batch.
    """
    for k in np.flatnonzero(flag)[:1]:
        what = f"loss {every['loss'][k]:.4g}, gradient norm {every['grad_norm'][k]:.4g}"
        logging.warning(
            "batch %d: %s (%s: %d since the last log line)", start + k, what, name, flag.sum()
        )
