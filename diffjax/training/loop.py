"""The training loop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import plot
from diffjax.arrays import stream
from diffjax.data.images import to_uint8
from diffjax.data.pipeline import Batches, read
from diffjax.samplers.generate import generate
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.experiment import Experiment
from diffjax.training.progress import Progress
from diffjax.training.signals import Signals
from diffjax.training.step import TrainState, make_step
from diffjax.training.writers import JSONL, TensorBoard, Writer


def train(experiment: Experiment, workdir: Path) -> tuple[TrainState, signal.Signals | None]:
    """Train to `config.train.steps`, going on from the newest checkpoint in `workdir`.

    Returns the last state, which is on disk, and the signal that ended training early, if one did.
    The same steps follow bit by bit from the same state, interrupted or not: the batch, the noise
    and the dropout of step k are functions of (seed, k).
    """
    settings = experiment.train
    with (
        Signals() as signals,
        closing(Checkpoints(workdir / "checkpoints", settings.keep)) as checkpoints,
    ):
        state = checkpoints.restore(jax.eval_shape(experiment.initialise))
        state = jax.jit(experiment.initialise)() if state is None else state
        start = int(state.step)
        if start >= settings.steps:
            return state, None
        batches = Batches(experiment.source("train"), settings.batch_size, experiment.seed)
        step = compile_step(experiment, state, batches[start])
        items = read(batches, start, settings.steps)
        with (
            closing(Log(workdir, start, settings.batch_size)) as log,
            Progress("train", settings.steps, "step", start) as progress,
        ):
            for done, item in enumerate(items, start + 1):
                state, metrics = step(state, experiment.batch(item))
                log.add(metrics)
                progress.advance()
                last = done == settings.steps or signals.received is not None
                if done % settings.log_every == 0 or last:
                    progress.show(log.write(done))
                if done % settings.sample_every == 0 or done == settings.steps:
                    log.picture(done, picture(experiment, state))
                if done % settings.checkpoint_every == 0 or last:
                    checkpoints.save(done, state)
                if last:
                    break
        return state, signals.received


def compile_step(experiment: Experiment, state: TrainState, items: dict[str, np.ndarray]) -> Any:
    """The train step as one compiled program that reuses the memory of the state."""
    e = experiment
    step = make_step(e.model, e.loss, e.optimizer, e.decay, e.seed)
    began = time.monotonic()
    compiled = jax.jit(step, donate_argnums=0).lower(state, e.batch(items)).compile()
    print(f"train step compiled in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return compiled


def picture(experiment: Experiment, state: TrainState) -> np.ndarray:
    """Samples of the averaged network from fixed seeds, labels in order."""
    e, num = experiment, experiment.train.samples
    label = e.labels(num)
    cond = {} if label is None else {"label": jnp.asarray(label)}
    key = stream(e.seed, "sample")
    made = generate(e.denoiser(state), e.plan, key, jnp.arange(num), cond, shape=e.shape)
    x = np.asarray(made)
    return plot.samples(to_uint8(x) if x.ndim == 4 else x, label)


class Log:
    """Metrics stay on the device until they are written: no host sync per step."""

    def __init__(self, workdir: Path, start: int, batch_size: int):
        self._workdir = workdir
        self._writers: Sequence[Writer] = (
            JSONL(workdir / "metrics.jsonl", start),
            TensorBoard(workdir / "tensorboard", start),
        )
        self._pending: list[Mapping[str, jax.Array]] = []
        self._batch_size, self._began = batch_size, time.monotonic()

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        self._pending.append(metrics)

    def write(self, step: int) -> dict[str, float]:
        """Write the means since the last call; the rate apart, for it is not reproducible."""
        rows = jax.device_get(self._pending)
        means = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
        now = time.monotonic()
        rate = {"images_per_s": len(rows) * self._batch_size / (now - self._began)}
        self._pending, self._began = [], now
        for writer in self._writers:
            writer.scalars(step, means | rate)
        return means | rate

    def picture(self, step: int, image: np.ndarray) -> None:
        plot.save(self._workdir / "samples" / f"step_{step:08d}.png", image)
        for writer in self._writers:
            writer.image(step, "samples", image)
        self._began = time.monotonic()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
