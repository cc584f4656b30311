"""The objects of a run, which the builder constructs from its config."""

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
from diffjax.codecs import Decoding
from diffjax.config import ConfigError
from diffjax.data.conditions import WEIGHT, likely
from diffjax.data.form import Form
from diffjax.data.pipeline import Batches, Reading, centred
from diffjax.data.source import Drawn, NoSplit, Source, load
from diffjax.denoiser import Denoiser, Model
from diffjax.devices.mesh import Sharding
from diffjax.encoders import Encoder
from diffjax.io.trees import parted
from diffjax.objectives import Objective
from diffjax.samplers.plan import Sampling
from diffjax.training.ema import Averages
from diffjax.training.health import Watch
from diffjax.training.optimizer import matches
from diffjax.training.step import FROZEN, Step, TrainState, make_step
from diffjax.training.writers import Writer

DEFAULTS = 256
"""Number of held-out items whose conditions are the defaults of samples, in turn."""


@dataclass(frozen=True)
class Train:
    """Settings of the training loop; all lengths are in steps.

    steps: the length of the whole training. batch_size: the number of items per step on all devices
    together.

    log_every: the steps between two lines of metrics. sample_every: the steps between two grids of
    samples. samples: the number of samples in each grid. checkpoint_every: the steps between two
    checkpoints. keep: the number of checkpoints to keep, besides the one with the lowest held-out
    loss. held_out_every: the steps between two measurements of the held-out loss, 0 for never.
    held_out: the number of items of the test split on which it is measured.

    sharding: the layout of the state over the devices, data, fsdp or model, as `name` or
    `name:argument=value`. peak_flops: the peak FLOP/s of one device, where its name does not
    determine it. writers: the writers of metrics besides metrics.jsonl, as `name` or
    `name:argument=value`.

    accumulate: the number of parts of a batch whose gradients are added up, to save memory.
    steps_per_dispatch: the number of steps that the device performs in one call, without the host;
    all lengths are multiples of it. snapshot_every: the steps between two stored copies of the
    power-function averages, from which `tools.ema` computes averages of other widths; 0 for never.

    max_bad_steps: the number of consecutive skipped steps, with a loss or gradient that is not
    finite, at which the run stops. spike: the multiple of its usual spread by which a loss or a
    gradient must exceed its mean to count as a spike (`Watch`); 0 for never. skip_spikes: skip
    spikes too, which the recipes of papers do not.

    Raises ValueError for a value out of range, and for lengths that are not multiples of each other
    where they must be.
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
    """Interface of a trained network that an objective holds, such as `runs.trained.Trained`."""

    @property
    def denoise(self) -> Denoiser: ...

    def save(self, folder: str | Path) -> None:
        """Write the network to a folder from which it can be loaded again."""
        ...


@dataclass(frozen=True)
class Experiment:
    """The objects of which a run consists.

    config: the config as it was written. complete: fills in the defaults of every section of a
    config. source: split -> data. reading: the settings of the input pipeline. form: the form of
    the items as the network sees them. plan: process -> sampling plan; with per_sample=True, each
    sample has its own guidance weight.

    averages: the averages of the parameters, by name. stds: the widths of the power-function
    averages, of which snapshots are stored. decodes: loads the codec of the data, if they have one,
    and returns the decoding. encodes: builds the encoder of prompts, if the network
    was trained with captions. frozen: regular expressions; parameters whose path contains a match
    are not trained. holds: the trained networks that the objective loads, by name.
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
    decodes: Callable[[], Decoding] = field(repr=False)
    encodes: Callable[[], Encoder] = field(repr=False)
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
        """The shape of one item as the network sees it."""
        return self.form.shape

    @functools.cached_property
    def decoding(self) -> Decoding:
        """The function from samples to stored items; the codec is loaded on first use.

        Raises ConfigError for a codec that does not exist or does not fit the samples.
        """
        return self.decodes()

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The function from prompts to conditions.

        Raises ConfigError for a network that was not trained with captions.
        """
        return self.encodes()

    @property
    def classes(self) -> int:
        """The number of classes, 0 without labels."""
        return self.form.classes

    def batches(self, rows: Any = ...) -> Batches:
        """Return the training batches, or `rows` of each; data that fit in memory are loaded."""
        source = self.source("train")
        form = source.form
        size = len(source) * math.prod(form.shape) * np.dtype(form.dtype).itemsize
        if size <= self.reading.memory * 1e9:
            source = source.kept() if isinstance(source, Drawn) else load(source)
        return Batches(source, self.train.batch_size, self.seed, self.reading, rows)

    def batch(self, items: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return the batch that the loss receives: x, conditions, and the fields that it reads.

        Weights of items (B,), where the source has them, are among the fields.
        """
        fields = {name: items[name] for name in self.loss.reads}
        if self.weighs and WEIGHT in items:
            fields[WEIGHT] = items[WEIGHT]
        return {"x": items["x"], "cond": {name: items[name] for name in self.form.names}} | fields

    @functools.cached_property
    def weighs(self) -> bool:
        """True if the training items have weights in the loss."""
        return any(spec.kind == WEIGHT for spec in self.source("train").form.conditions)

    def conditions(self, num: int) -> dict[str, np.ndarray]:
        """Return the default conditions of samples 0, ..., num - 1, each (num, ...)."""
        return taken(self.defaults, num)

    @property
    def unseen(self) -> Source:
        """The test split, or the training split where the data have no test split."""
        try:
            return self.source("test")
        except ConfigError as error:
            if not isinstance(error.__cause__, NoSplit):
                raise
            return self.source("train")

    @functools.cached_property
    def defaults(self) -> dict[str, np.ndarray]:
        """The default conditions as rows, which samples use in turn.

        Where the label is the only condition, they are labels 0, 1, ...; where the length is the
        only one and the form counts the lengths of the training items, they are drawn from these;
        otherwise, they are those of the first held-out items, or of training items where none are
        held out. Raises ConfigError where the data set cannot be opened.
        """
        if self.form.names in ([], ["label"]):
            label = np.arange(self.classes, dtype=np.int32)
            return {"label": label} if self.classes else {}
        if self.form.names == ["length"] and self.form.lengths:
            return {"length": likely(self.form.lengths, DEFAULTS)}
        source = self.unseen
        items = source[np.arange(min(len(source), DEFAULTS))]
        cut = centred(items, self.reading, source.form)
        return self.form.carried(cut, len(items["x"]))

    def step(self) -> Step:
        """Return the train step, a pure function."""
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
        """Draw all parameters before the first step from the seed."""
        cond = {name: jnp.asarray(value) for name, value in self.form.example(1).items()}
        x = jnp.zeros((1, *self.shape))
        params = self.model.init(stream(self.seed, "init"), x, cond)
        objective = self.loss.init(self.model, stream(self.seed, "loss"), x)
        return params | ({"loss": objective} if objective else {})

    def initialise(self) -> TrainState:
        """Return the state before the first step."""
        state = self.begin(self.parameters())
        return state._replace(held=state.held | self.loaded)

    def begin(self, params: Params) -> TrainState:
        """Return the state before the first step with these parameters, without loaded networks."""
        initial, held = params, dict(self.loss.hold(self.model, params))
        if self.frozen:
            frozen, params = parted(params, matches(self.frozen))
            held[FROZEN] = frozen
        averaged = params
        for name in self.loss.companions:
            params = params | {name: jax.tree.map(jnp.copy, initial["network"])}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema={name: jax.tree.map(jnp.copy, averaged) for name in self.averages},
            optimizer=self.optimizer.init(params),
            loss=self.loss.init_state(self.model),
            held=held,
        )

    @property
    def loaded(self) -> dict[str, Params]:
        """The parameters of the networks that the objective loads, by name."""
        return {name: thing.denoise.params for name, thing in self.holds.items()}

    def denoiser(self, params: Params) -> Denoiser:
        """Return the denoiser with these parameters, such as an average, for sampling."""
        return Denoiser(self.model, params)
