"""All objects of a run, as built from its config."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffjax.arrays import Params, stream, taken
from diffjax.checks import at_least
from diffjax.config import ConfigError
from diffjax.data.form import Form
from diffjax.data.pipeline import Batches, Reading, centred
from diffjax.data.source import NoSplit, Source, load
from diffjax.denoiser import Denoiser, Model
from diffjax.devices.mesh import Sharding
from diffjax.io.trees import parted
from diffjax.objectives import Objective
from diffjax.samplers.plan import Sampling
from diffjax.training.ema import Averages
from diffjax.training.health import Watch
from diffjax.training.optimizer import matches
from diffjax.training.step import FROZEN, Step, TrainState, make_step
from diffjax.training.writers import Writer

DEFAULTS = 256
"""Held-out items whose conditions are the default ones of samples, in turn."""


@dataclass(frozen=True)
class Train:
    """Lengths in steps. steps: of the whole training. batch_size: of all devices together.

    log_every: steps between two lines of metrics. sample_every: steps between two grids of samples.
    samples: images in each. checkpoint_every: steps between two checkpoints. keep: how many of them
    stay, besides the one of least held-out loss. held_out_every: steps between two measurements of
    the held-out loss, 0 for never. held_out: items of the test split that it is measured on.

    sharding: data, fsdp or model, `name` or `name:argument=value`: how the state is laid out over
    the devices. peak_flops: FLOP/s that one device can do, where it is not known by its name.
    writers: what is written besides metrics.jsonl, `name` or `name:argument=value`.

    accumulate: parts of a batch whose gradients are added up, to save memory. steps_per_dispatch:
    steps that the device makes in one call, without the host; all lengths are multiples of it.
    snapshot_every: steps between two stored copies of the power-function averages, of which
    `tools.ema` makes those of other lengths; 0: none.

    max_bad_steps: steps in a row that were skipped, as their loss or gradient is not finite, at
    which the run stops. spike: how many times its usual spread a loss or gradient must lie above
    its mean to be counted as one (`Watch`); 0 for never. skip_spikes: skip them too, which the
    recipes of papers do not.
    """

    steps: int = 1000
    batch_size: int = 128
    accumulate: int = 1
    steps_per_dispatch: int = 1
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    snapshot_every: int = 0
    keep: int = 2
    samples: int = 64
    held_out_every: int = 0
    held_out: int = 1000
    writers: tuple[str, ...] = ("tensorboard",)
    sharding: str = "data"
    peak_flops: float = 0.0
    max_bad_steps: int = 20
    spike: float = 20.0
    skip_spikes: bool = False

    def __post_init__(self):
        may_be_0 = ("held_out_every", "snapshot_every", "peak_flops", "spike")
        for name, value in vars(self).items():
            if name not in ("writers", "sharding", "skip_spikes"):
                at_least(0 if name in may_be_0 else 1, **{name: value})
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size={self.batch_size}: needs a multiple of accumulate={self.accumulate}"
            )
        every = ("log", "sample", "checkpoint", "snapshot", "held_out")
        for name in ("steps", *(f"{what}_every" for what in every)):
            if vars(self)[name] % self.steps_per_dispatch:
                raise ValueError(
                    f"{name}={vars(self)[name]}: needs a multiple of "
                    f"steps_per_dispatch={self.steps_per_dispatch}"
                )
        if self.checkpoint_every % self.log_every:
            raise ValueError(
                f"checkpoint_every={self.checkpoint_every}: needs a multiple of "
                f"log_every={self.log_every}, so that a resumed run logs the same means"
            )


@runtime_checkable
class Holding(Protocol):
    """A trained thing that an objective holds, as `runs.trained.Trained`."""

    @property
    def denoise(self) -> Denoiser: ...

    def save(self, folder: str | Path) -> None:
        """Write it to a folder from which it can be loaded again."""
        ...


@dataclass(frozen=True)
class Experiment:
    """What a run consists of. source: split -> data. plan: process -> how to sample it; with
    per_sample=True, for samples that bring their guidance weights.

    config: as it was written. complete: a config with the defaults of every section filled in.

    averages: of the parameters, by name. stds: the widths of those that are power functions, of
    which snapshots are taken. frozen: regular expressions; parameters whose path has one are not
    trained. holds: the trained things that the objective loads, by name.
    """

    config: dict[str, Any]
    source: Callable[[str], Source]
    reading: Reading
    model: Model
    loss: Objective
    optimizer: optax.GradientTransformation
    averages: Averages
    stds: Mapping[str, float]
    train: Train
    writers: tuple[Callable[[Path, int], Writer], ...]
    sharding: Sharding
    plan: Callable[..., Sampling]
    seed: int
    form: Form
    frozen: tuple[str, ...] = ()
    holds: Mapping[str, Holding] = field(default_factory=dict)
    complete: Callable[[Mapping[str, Any]], dict[str, Any]] = dict

    def __repr__(self) -> str:
        name, steps = self.config["data"]["name"], self.train.steps
        return (
            f"Experiment({name}, {self.form.kind} {self.shape}, {self.form.names}, {self.model}, "
            f"{steps} steps of {self.train.batch_size})"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.form.shape

    @property
    def classes(self) -> int:
        return self.form.classes

    def batches(self, rows: Any = ...) -> Batches:
        """The training data, decoded here and now if they fit in memory; `rows` of each batch."""
        source = self.source("train")
        form = source.form
        size = len(source) * math.prod(form.shape) * np.dtype(form.dtype).itemsize
        source = load(source) if size <= self.reading.memory * 1e9 else source
        return Batches(source, self.train.batch_size, self.seed, self.reading, rows)

    def batch(self, items: dict[str, np.ndarray]) -> dict[str, Any]:
        """What the loss sees of items of the source."""
        return {"x": items["x"], "cond": {name: items[name] for name in self.form.names}}

    def conditions(self, num: int) -> dict[str, np.ndarray]:
        """The default conditions of samples 0, ..., num - 1, (num, ...) each."""
        return taken(self.defaults, num)

    @functools.cached_property
    def defaults(self) -> dict[str, np.ndarray]:
        """The default conditions in rows, which samples take in turn.

        Labels 0, 1, ... where there is nothing but a label; else those of the first held-out items
        (of training items where none are held out). Raises ConfigError where the data set cannot be
        opened.
        """
        if self.form.names in ([], ["label"]):
            label = np.arange(self.classes, dtype=np.int32)
            return {"label": label} if self.classes else {}
        try:
            source = self.source("test")
        except ConfigError as error:
            if not isinstance(error.__cause__, NoSplit):
                raise
            source = self.source("train")
        items = source[np.arange(min(len(source), DEFAULTS))]
        cut = centred(items, self.reading, source.form)
        return self.form.carried(cut, len(items["x"]))

    def step(self) -> Step:
        """The train step as a pure function."""
        return make_step(
            model=self.model,
            loss=self.loss,
            optimizer=self.optimizer,
            averages=self.averages,
            seed=self.seed,
            accumulate=self.train.accumulate,
            reading=self.reading,
            watch=Watch(self.train.spike, self.train.skip_spikes),
        )

    def parameters(self) -> Params:
        """All parameters before the first step, drawn from the seed."""
        cond = {name: jnp.asarray(value) for name, value in self.form.example(1).items()}
        key = stream(self.seed, "init")
        params = self.model.init(key, jnp.zeros((1, *self.shape)), cond)
        objective = self.loss.init(self.model)
        return params | ({"loss": objective} if objective else {})

    def initialise(self) -> TrainState:
        """The state before the first step."""
        state = self.begin(self.parameters())
        return state._replace(held=state.held | self.loaded)

    def begin(self, params: Params) -> TrainState:
        """The state before the first step with these parameters, without what is loaded."""
        held = dict(self.loss.hold(self.model, params))
        if self.frozen:
            frozen, params = parted(params, matches(self.frozen))
            held[FROZEN] = frozen
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema={name: jax.tree.map(jnp.copy, params) for name in self.averages},
            optimizer=self.optimizer.init(params),
            loss=self.loss.init_state(self.model),
            held=held,
        )

    @property
    def loaded(self) -> dict[str, Params]:
        """Parameters of what the objective loads, by name."""
        return {name: thing.denoise.params for name, thing in self.holds.items()}

    def denoiser(self, params: Params) -> Denoiser:
        """The network with these parameters: the averages of a run, to sample from it."""
        return Denoiser(self.model, params)
