"""The training loop."""

from __future__ import annotations

import logging
import signal
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.arrays import Params, stream
from diffjax.config import ConfigError, RunError
from diffjax.data.pipeline import Batches, read
from diffjax.devices import mesh
from diffjax.devices.mesh import Layout
from diffjax.devices.processes import SharedSignal, first
from diffjax.generation.program import generate
from diffjax.io.trees import flat, joined
from diffjax.progress import Progress, compiling
from diffjax.training import held, snapshots
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.cost import cost, report
from diffjax.training.experiment import Experiment, Train
from diffjax.training.feed import Feed, Stalled
from diffjax.training.held_out import held_out
from diffjax.training.log import Log, tried
from diffjax.training.signals import Signals
from diffjax.training.step import Moving, TrainState, scan
from diffjax.training.trace import traced


def train(
    experiment: Experiment,
    workdir: Path,
    layout: Layout | None = None,
    profile: tuple[int, int] | None = None,
    params: Params | None = None,
) -> tuple[TrainState, signal.Signals | None]:
    """Train to `config.train.steps`, resuming from the newest checkpoint in `workdir`.

    Returns the last state, which is on disk, and the signal that ended training early, if one did.
    An interrupted run is bit-for-bit the one that was not: batch, noise and dropout of step k are
    functions of (seed, k). layout: over all devices by default. params: to begin with, where there
    is no checkpoint. profile: steps of which a trace is written, see `traced`. After saving, raises
    ConfigError for data that cannot be read and RunError where it makes no sense to continue.
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
        state = restored(experiment, workdir, checkpoints, abstract, shardings)
        start, stride = int(state.step) if state else 0, settings.steps_per_dispatch
        if state and start >= settings.steps:
            return state, None
        log = opened.enter_context(  # a writer that is not installed is refused before the work
            closing(Log(workdir, start, settings.batch_size, experiment.writers))
        )
        with log.paused():
            state = state or begin(experiment, workdir, checkpoints, layout, shardings, params)
            batches = experiment.batches(layout.rows(settings.batch_size))
            stacks = read(batches, start, settings.steps, stride, experiment.reading.workers)
            placed = (layout.place(experiment.batch(stack)) for stack in stacks)
            feed = opened.enter_context(closing(Feed(placed, experiment.reading.timeout)))
            callbacks = Callbacks(experiment, workdir, layout, log, checkpoints, batches)
            batch = callbacks.take(feed, signals, start, state)
            run = compile_steps(experiment, layout, state, batch)
            checkpoints.reserve(state.moving)
            log.cost = report(workdir, cost(experiment, layout, run, state, batch))
            tracing = traced(run, workdir / "profile", start, stride, profile)
            run, agreed = opened.enter_context(tracing), SharedSignal(layout)
        with Progress("train", settings.steps, "step", start, quiet=not first()) as progress:
            for done in range(start + stride, settings.steps + 1, stride):
                state, metrics = run(state, batch)
                log.add(metrics)
                progress.advance(stride)
                stop = agreed(signals.received)
                last = done == settings.steps or stop is not None
                callbacks.look(done, state, last, progress)
                if last:
                    break
                batch = callbacks.take(feed, signals, done, state)
        checkpoints.wait()
        if int(state.step) not in checkpoints.steps():
            raise RunError(f"step {int(state.step)} was made, but {callbacks.saved(done, state)}")
        return state, stop


def restored(
    experiment: Experiment, workdir: Path, checkpoints: Checkpoints, abstract: Any, shardings: Any
) -> TrainState | None:
    """The newest state in `workdir` with what it holds; None where there is no checkpoint yet."""
    moving = checkpoints.restore(abstract.moving, shardings.moving)
    return moving and moving.holding(held.restore(workdir, experiment, abstract, shardings))


def begin(
    experiment: Experiment,
    workdir: Path,
    checkpoints: Checkpoints,
    layout: Layout,
    shardings: Any,
    params: Params | None = None,
) -> TrainState:
    """The first state, with what it holds saved; its parameters are `params`, or drawn."""
    e, loaded = experiment, experiment.loaded
    drawn = {k: v for k, v in shardings.held.items() if k not in loaded}
    out = shardings._replace(held=drawn)
    if params is None:
        state = jax.jit(lambda: e.begin(e.parameters()), out_shardings=out)()
    else:
        fill = lambda some: e.begin(some if complete else joined(e.parameters(), some))
        complete = set(flat(params)) == set(flat(jax.eval_shape(e.parameters)))
        state = jax.jit(fill, out_shardings=out)(layout.put(params))
    placed = {k: held.placed(v, shardings.held[k]) for k, v in loaded.items()}
    state = state._replace(held=state.held | placed)
    held.save(workdir, experiment, state.held, layout)
    if params is not None:  # to resume without their source, whatever becomes of it
        checkpoints.save(0, state.moving)
    return state


class Callbacks:
    """Runs what is due between steps: log, pictures, held-out loss, snapshots, checkpoints.

    batches: to keep the first bad one of a run that stops for it.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        layout: Layout,
        log: Log,
        checkpoints: Checkpoints,
        batches: Batches,
    ):
        self._experiment, self._workdir, self._layout = experiment, workdir, layout
        self._log, self._checkpoints, self._batches = log, checkpoints, batches
        wanted = experiment.train.held_out_every
        self._unseen = held_out(experiment, layout) if wanted else lambda state: {}

    def look(self, done: int, state: TrainState, last: bool, progress: Progress) -> None:
        """What is due after step `done`; all of it where that is the last of a run."""
        settings, log = self._experiment.train, self._log
        due = lambda every: every and (done % every == 0 or done == settings.steps)
        if due(settings.log_every) or last:
            shown = log.write(done)
            progress.show({k: v for k, v in shown.items() if "/" not in k})
            self._judge(done, state)
        if due(settings.sample_every):
            with log.paused():
                try:
                    log.picture(done, picture(self._experiment, self._layout, state))
                except FloatingPointError as error:
                    logging.warning("samples of step %d: %s; no picture", done, error)
        measured = {}
        if due(settings.held_out_every):
            with log.paused():
                log.scalars(done, measured := self._unseen(state))
        # Before the checkpoint: a run that resumes there does not pass here again.
        if due(settings.snapshot_every):
            with tried(f"snapshot {done}"):
                stds = self._experiment.stds
                tracked = self._layout.whole({name: state.ema[name] for name in stds})
                snapshots.save(self._workdir, done, tracked, stds)
        if due(settings.checkpoint_every) or last:
            self._checkpoints.save(done, state.moving, measured.get("held_out/loss"))

    def take(self, feed: Feed, signals: Signals, done: int, state: TrainState) -> Any:
        """The batches of the next steps. Where none come, what was learnt is saved first."""
        alone = jax.process_count() == 1  # several save together, and only one may be waiting
        try:
            return feed.take(lambda: alone and signals.received is not None)
        except ConfigError:  # data that cannot be read
            if alone:
                self.saved(done, state)
            raise
        except Stalled as stalled:
            source = self._experiment.config["data"]["name"]
            why = f"batch {done} of config.data.name={source!r} did not come in {stalled}"
            ended = f"; {self.saved(done, state) if alone else 'saved by no process'}"
            if number := signals.received:
                raise RunError(f"{number.name}: {why}{ended}", 128 + number, stuck=True) from None
            raise RunError(f"{why} (config.data.timeout){ended}", stuck=True) from None

    def saved(self, done: int, state: TrainState) -> str:
        """Save, wait for it, and say where the run resumes."""
        self._checkpoints.save(done, state.moving)
        self._checkpoints.wait()
        last = max(self._checkpoints.steps(), default=0)
        return f"saved at step {done}" if last >= done else f"the last checkpoint is of step {last}"

    def _judge(self, done: int, state: TrainState) -> None:
        """Stop a run whose steps are all skipped."""
        row, most = int(state.health.row), self._experiment.train.max_bad_steps
        if row < most:
            return
        bad = done - row
        path = self._workdir / f"bad_batch_{bad:08d}.npz"
        if first():
            with tried(path):
                np.savez(path, allow_pickle=False, **self._batches[bad])
        raise RunError(
            f"batches {bad} to {done - 1}: loss or gradient is not finite, so {row} steps in a "
            f"row were skipped (config.train.max_bad_steps={most}); the weights are those of step "
            f"{bad}, {self.saved(done, state)}; batch {bad}: {path}"
        )


def check(settings: Train, layout: Layout) -> None:
    """Refuse a batch that cannot be split evenly over the devices."""
    unit = layout.parts * settings.accumulate
    if settings.batch_size % unit:
        raise ConfigError(
            f"config.train.batch_size={settings.batch_size}: needs a multiple of {unit}, the "
            f"number of devices that share it ({layout.parts}) times accumulate "
            f"({settings.accumulate})"
        )


class Compiled:
    """All steps of a dispatch as one compiled program: `(state, batches) -> (state, metrics)`.

    It overwrites the state in place, but for what is held, which only goes in.
    """

    def __init__(self, experiment: Experiment, layout: Layout, state: TrainState, batch: Any):
        steps, shardings = scan(experiment.step()), layout.state(state)

        def run(moving: Moving, held: dict[str, Params], batch: Any) -> Any:
            state, metrics = steps(moving.holding(held), batch)
            return state.moving, metrics

        jitted = jax.jit(
            run,
            donate_argnums=0,
            in_shardings=(shardings.moving, shardings.held, layout.split(1)),
            out_shardings=(shardings.moving, layout.everywhere),
        )
        with jax.set_mesh(layout.mesh):
            self._run = jitted.lower(state.moving, state.held, batch).compile()

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        moving, metrics = self._run(state.moving, state.held, batch)
        return moving.holding(state.held), metrics

    def memory_analysis(self) -> Any:
        return self._run.memory_analysis()

    def as_text(self) -> str | None:
        """The program as the compiler made it."""
        return self._run.as_text()


def compile_steps(
    experiment: Experiment, layout: Layout, state: TrainState, batch: Any
) -> Compiled:
    """All steps of a dispatch as one compiled program, and a line that says how long that took."""
    began = time.monotonic()
    with compiling("the train step", quiet=not first()):
        compiled = Compiled(experiment, layout, state, batch)
    if first():
        print(
            f"train step compiled in {time.monotonic() - began:.1f} s, for {layout.size} "
            f"{layout.mesh.devices.flat[0].platform} device(s)",
            file=sys.stderr,
        )
    return compiled


def picture(experiment: Experiment, layout: Layout, state: TrainState) -> np.ndarray:
    """Samples of the network with the first average by name, from fixed seeds, labels in order.

    Raises FloatingPointError where sampling failed.
    """
    e, num = experiment, experiment.train.samples
    cond = conditions = e.conditions(num)
    key = stream(e.seed, "sample")
    even = num % layout.parts == 0
    index, cond = layout.put((np.arange(num), cond), 0 if even else None)
    denoise = e.denoiser(state.weights(min(state.ema)))
    plan = layout.put(e.plan(denoise.sde))
    result = generate(denoise, plan, key, index, cond, shape=e.shape)
    plan.check(result._replace(bad=layout.whole(result.bad)))
    x = e.form.denormalise(layout.whole(result.x))
    return e.form.picture(e.form.ended(x, conditions), conditions.get("label"))
