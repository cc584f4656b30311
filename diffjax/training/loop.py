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

from diffjax.arrays import Params
from diffjax.config import ConfigError, RunError
from diffjax.data.pipeline import Batches, read
from diffjax.devices import mesh
from diffjax.devices.mesh import Layout
from diffjax.devices.processes import SharedSignal, first
from diffjax.io.trees import flat, joined
from diffjax.nets.network import weights_split
from diffjax.progress import Progress, compiling, many
from diffjax.training import held, snapshots
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.cost import cost, report
from diffjax.training.experiment import Experiment, Train
from diffjax.training.feed import Feed, Stalled
from diffjax.training.held_out import held_out
from diffjax.training.log import Log, tried
from diffjax.training.pictures import picture
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
    """Train up to `config.train.steps`, resuming from the newest checkpoint in `workdir`.

    Return the last state, which is on disk, and the signal that stopped training or came before its
    end, or None. A resumed run is bit-for-bit identical to an uninterrupted one: batch, noise and
    dropout of step k are functions of (seed, k). layout: by default over all devices. profile: the
    steps to trace, see `traced`. params: the initial parameters, used without a checkpoint. Raises
    ConfigError for unreadable data and RunError where it cannot continue, after saving.
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
        log = opened.enter_context(  # first, to refuse a missing writer before any work
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
            raise RunError(f"reached step {int(state.step)}, but {callbacks.saved(done, state)}")
    return state, stop or agreed.now(signals.received)  # also one that came in the last save


def restored(
    experiment: Experiment, workdir: Path, checkpoints: Checkpoints, abstract: Any, shardings: Any
) -> TrainState | None:
    """Return the newest state in `workdir` with its held parameters, None without a checkpoint.

    The step from which an unfinished run resumes is printed.
    """
    moving, steps = checkpoints.restore(abstract.moving, shardings.moving), experiment.train.steps
    if moving and first() and (step := int(moving.step)) < steps:
        print(f"resumes from step {step} of {steps}", file=sys.stderr)
    return moving and moving.holding(held.restore(workdir, experiment, abstract, shardings))


def begin(
    experiment: Experiment,
    workdir: Path,
    checkpoints: Checkpoints,
    layout: Layout,
    shardings: Any,
    params: Params | None = None,
) -> TrainState:
    """Return the first state, and save its held parameters.

    params: the initial parameters, by default drawn from the seed; parameters not among them are
    drawn as well.
    """
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
    if params is not None:  # so that the run resumes even if the source of the weights is gone
        checkpoints.save(0, state.moving)
    return state


class Callbacks:
    """The work between steps: log, pictures, held-out loss, snapshots and checkpoints.

    batches: the training batches, so that the first bad one can be saved if it stops the run.
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
        self._doubted: set[str] = set()
        wanted = experiment.train.held_out_every
        self._unseen = held_out(experiment, layout) if wanted else lambda state: {}

    def look(self, done: int, state: TrainState, last: bool, progress: Progress) -> None:
        """Do all work that is due after step `done`; the `last` step also logs and saves.

        progress: shows the metrics.
        """
        settings, log = self._experiment.train, self._log
        due = lambda every: every and (done % every == 0 or done == settings.steps)
        if due(settings.log_every) or last:
            shown = log.write(done)
            progress.show({k: v for k, v in shown.items() if "/" not in k})
            self._warn(done, shown)
            self._judge(done, state)
        if due(settings.sample_every):
            with log.paused():
                try:
                    log.picture(done, picture(self._experiment, self._layout, state))
                except FloatingPointError as error:
                    logging.warning("samples of step %d: %s; no picture is written", done, error)
        measured = {}
        if due(settings.held_out_every):
            with log.paused():
                log.scalars(done, measured := self._unseen(state))
        # Before the checkpoint: a run that resumes from it does not repeat this step.
        if due(settings.snapshot_every):
            with tried(f"snapshot {done}"):
                stds = self._experiment.stds
                tracked = self._layout.whole({name: state.ema[name] for name in stds})
                snapshots.save(self._workdir, done, tracked, stds)
        if due(settings.checkpoint_every) or last:
            self._checkpoints.save(done, state.moving, measured.get("held_out/loss"))

    def take(self, feed: Feed, signals: Signals, done: int, state: TrainState) -> Any:
        """Return the batches of the next steps.

        Raises ConfigError for unreadable data and RunError for a stalled input pipeline. A single
        process saves a checkpoint first.
        """
        alone = jax.process_count() == 1  # several processes save together; only one may wait here
        try:
            return feed.take(lambda: alone and signals.received is not None)
        except ConfigError:  # data that cannot be read
            if alone:
                self.saved(done, state)
            raise
        except Stalled as stalled:
            source = self._experiment.config["data"]["name"]
            why = f"batch {done} of config.data.name={source!r} did not arrive within {stalled}"
            ended = f"; {self.saved(done, state) if alone else 'no process has saved its state'}"
            if number := signals.received:
                raise RunError(f"{number.name}: {why}{ended}", 128 + number, stuck=True) from None
            raise RunError(f"{why} (config.data.timeout){ended}", stuck=True) from None

    def saved(self, done: int, state: TrainState) -> str:
        """Save a checkpoint, wait for it, and return a text about the step to resume from."""
        self._checkpoints.save(done, state.moving)
        self._checkpoints.wait()
        last = max(self._checkpoints.steps(), default=0)
        return f"saved at step {done}" if last >= done else f"the last checkpoint is at step {last}"

    def _warn(self, done: int, metrics: dict[str, float]) -> None:
        """Log what the objective doubts, each kind of doubt once."""
        lines = self._experiment.loss.doubts(done, metrics)
        for kind in lines.keys() - self._doubted:
            logging.warning("step %d: %s", done, lines[kind])
        self._doubted |= lines.keys()

    def _judge(self, done: int, state: TrainState) -> None:
        """Raise RunError after too many skipped steps in a row, and save the first bad batch."""
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
            f"{bad}, {self.saved(done, state)}; batch {bad} is in {path}"
        )


def check(settings: Train, layout: Layout) -> None:
    """Raise ConfigError for a batch that cannot be split evenly over the devices."""
    unit = layout.parts * settings.accumulate
    if settings.batch_size % unit:
        raise ConfigError(
            f"config.train.batch_size={settings.batch_size}: needs a multiple of {unit}, the "
            f"number of devices that share it ({layout.parts}) times accumulate "
            f"({settings.accumulate})"
        )


def program(experiment: Experiment, layout: Layout, state: TrainState, batch: Any) -> Any:
    """Trace all steps of a dispatch as one program: `(moving, held, batches) -> (moving, metrics)`.

    The result has a `jaxpr`, and `lower` prepares it for the devices of the layout. The program
    overwrites the state in place, except for the held parameters, which are only read. state,
    batch: arrays, or their shapes.
    """
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
    with jax.set_mesh(layout.mesh), weights_split(layout.sharding.splits_weights):
        return jitted.trace(state.moving, state.held, batch)


class Compiled:
    """The compiled `program`, as a function `(state, batches) -> (state, metrics)`."""

    def __init__(self, experiment: Experiment, layout: Layout, state: TrainState, batch: Any):
        traced = program(experiment, layout, state, batch)
        with jax.set_mesh(layout.mesh):
            self._run = traced.lower().compile()

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        moving, metrics = self._run(state.moving, state.held, batch)
        return moving.holding(state.held), metrics

    def memory_analysis(self) -> Any:
        """Return the memory statistics of the compiler, None where it has none."""
        return self._run.memory_analysis()

    def as_text(self) -> str | None:
        """Return the text of the compiled program."""
        return self._run.as_text()


def compile_steps(
    experiment: Experiment, layout: Layout, state: TrainState, batch: Any
) -> Compiled:
    """Compile all steps of a dispatch as one program, and print the time that this took."""
    began = time.monotonic()
    with compiling("the train step", quiet=not first()):
        compiled = Compiled(experiment, layout, state, batch)
    if first():
        print(
            f"train step compiled in {time.monotonic() - began:.1f} s, for "
            f"{many(layout.size, f'{layout.mesh.devices.flat[0].platform} device')}",
            file=sys.stderr,
        )
    return compiled
