"""The training loop."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax import plot
from diffjax.arrays import stream
from diffjax.config import ConfigError
from diffjax.data.images import is_image, to_uint8
from diffjax.data.pipeline import read
from diffjax.progress import Progress
from diffjax.samplers.generate import generate
from diffjax.training import mesh, snapshots
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.cost import cost, report
from diffjax.training.experiment import Experiment, Train
from diffjax.training.held_out import held_out
from diffjax.training.log import Log
from diffjax.training.mesh import Layout
from diffjax.training.processes import Agreed, first
from diffjax.training.signals import Signals
from diffjax.training.step import TrainState, scan
from diffjax.training.trace import traced


def train(
    experiment: Experiment,
    workdir: Path,
    layout: Layout | None = None,
    profile: tuple[int, int] | None = None,
) -> tuple[TrainState, signal.Signals | None]:
    """Train to `config.train.steps`, going on from the newest checkpoint in `workdir`.

    Returns the last state, which is on disk, and the signal that ended training early, if one did.
    The same steps follow bit by bit from the same state, interrupted or not: the batch, the noise
    and the dropout of step k are functions of (seed, k). layout: over all devices by default.
    profile: steps of which a trace is written, see `traced`. Raises ConfigError for data that
    cannot be read, after saving.
    """
    settings = experiment.train
    layout = layout or mesh.layout(sharding=experiment.sharding)
    check(settings, layout)
    with (
        Signals() as signals,
        closing(Checkpoints(workdir / "checkpoints", settings.keep)) as checkpoints,
        ExitStack() as opened,
    ):
        abstract = jax.eval_shape(experiment.initialise)
        shardings = layout.state(abstract)
        state = checkpoints.restore(abstract, shardings)
        if state is None:
            state = jax.jit(experiment.initialise, out_shardings=shardings)()
        start = int(state.step)
        if start >= settings.steps:
            return state, None
        stride, every = settings.steps_per_dispatch, settings.snapshot_every
        batches = experiment.batches(layout.rows(settings.batch_size))
        stacks = read(batches, start, settings.steps, stride, experiment.reading.workers)
        log = opened.enter_context(
            closing(Log(workdir, start, settings.batch_size, experiment.writers))
        )
        with log.paused():
            batch = layout.place(experiment.batch(next(stacks)))
            run = compile_steps(experiment, layout, state, batch)
            log.cost = report(workdir, cost(experiment, layout, run, state, batch))
            unseen = held_out(experiment, layout) if settings.held_out_every else None
            tracing = traced(run, workdir / "profile", start, stride, profile)
            run, agreed = opened.enter_context(tracing), Agreed(layout)
        with Progress("train", settings.steps, "step", start, quiet=not first()) as progress:
            for done in range(start + stride, settings.steps + 1, stride):
                state, metrics = run(state, batch)
                log.add(metrics)
                progress.advance(stride)
                stop = agreed(signals.received)
                last = done == settings.steps or stop is not None
                if done % settings.log_every == 0 or last:
                    shown = log.write(done)
                    progress.show({k: v for k, v in shown.items() if "/" not in k})
                if done % settings.sample_every == 0 or done == settings.steps:
                    with log.paused():
                        log.picture(done, picture(experiment, layout, state))
                if unseen and (done % settings.held_out_every == 0 or done == settings.steps):
                    with log.paused():
                        log.scalars(done, unseen(state))
                # Before the checkpoint: a run that goes on from there does not come by again.
                if every and (done % every == 0 or done == settings.steps):
                    tracked = {name: state.ema[name] for name in experiment.stds}
                    snapshots.save(workdir, done, layout.whole(tracked), experiment.stds)
                if done % settings.checkpoint_every == 0 or last:
                    checkpoints.save(done, state)
                if last:
                    break
                try:
                    batch = layout.place(experiment.batch(next(stacks)))
                except ConfigError:  # data that cannot be read: nothing learnt is lost
                    if layout.alone:  # several processes save together, and one has stopped
                        checkpoints.save(done, state)
                    raise
        return state, stop


def check(settings: Train, layout: Layout) -> None:
    """Refuse a batch that cannot be split evenly over the devices."""
    unit = layout.parts * settings.accumulate
    if settings.batch_size % unit:
        raise ConfigError(
            f"config.train.batch_size={settings.batch_size}: needs a multiple of {unit}, the "
            f"number of devices that share it ({layout.parts}) times accumulate "
            f"({settings.accumulate})"
        )


def compile_steps(experiment: Experiment, layout: Layout, state: TrainState, batch: Any) -> Any:
    """All steps of a dispatch as one compiled program that reuses the memory of the state."""
    shardings = layout.state(state)
    began = time.monotonic()
    steps = jax.jit(
        scan(experiment.step()),
        donate_argnums=0,
        in_shardings=(shardings, layout.split(1)),
        out_shardings=(shardings, layout.everywhere),
    )
    with jax.set_mesh(layout.mesh):
        compiled = steps.lower(state, batch).compile()
    if first():
        print(
            f"train step compiled in {time.monotonic() - began:.1f} s, for {layout.size} "
            f"{layout.mesh.devices.flat[0].platform} device(s)",
            file=sys.stderr,
        )
    return compiled


def picture(experiment: Experiment, layout: Layout, state: TrainState) -> np.ndarray:
    """Samples of the network with the first average by name, from fixed seeds, labels in order."""
    e, num = experiment, experiment.train.samples
    label = e.labels(num)
    cond = {} if label is None else {"label": label}
    key = stream(e.seed, "sample")
    even = num % layout.parts == 0
    index, cond = layout.put((np.arange(num), cond), 0 if even else None)
    denoise = e.denoiser(state.ema[min(state.ema)])
    plan = layout.put(e.plan(denoise.sde))
    made = generate(denoise, plan, key, index, cond, shape=e.shape)
    x = layout.whole(made.x)
    return plot.samples(to_uint8(x) if is_image(e.shape) else x, label)
