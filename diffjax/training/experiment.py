"""All objects of a run, as built from its config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffjax.arrays import stream
from diffjax.data.source import Source
from diffjax.denoiser import Denoiser, Model
from diffjax.losses import Loss
from diffjax.samplers.generate import Plan
from diffjax.training.ema import Decay
from diffjax.training.step import TrainState


@dataclass(frozen=True)
class Train:
    """Lengths in steps. samples: images in the grids made every `sample_every` steps."""

    steps: int = 1000
    batch_size: int = 128
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    samples: int = 64

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name}={value}: needs {name} >= 1")
        if self.checkpoint_every % self.log_every:
            raise ValueError(
                f"checkpoint_every={self.checkpoint_every}: needs a multiple of "
                f"log_every={self.log_every}, so that a resumed run logs the same means"
            )


@dataclass(frozen=True)
class Experiment:
    """What a run consists of.

    source: split -> data. shape: of one item. classes: labels that the network is given, or 0.
    """

    config: dict[str, Any]
    source: Callable[[str], Source]
    model: Model
    loss: Loss
    optimizer: optax.GradientTransformation
    decay: Decay
    train: Train
    plan: Plan
    seed: int
    shape: tuple[int, ...]
    classes: int

    def batch(self, items: dict[str, np.ndarray]) -> dict[str, Any]:
        """What the loss sees of items of the source."""
        return {"x": items["x"], "cond": {"label": items["label"]} if self.classes else {}}

    def labels(self, num: int) -> np.ndarray | None:
        """The default label of sample k: k modulo the number of classes."""
        return np.arange(num, dtype=np.int32) % self.classes if self.classes else None

    def initialise(self) -> TrainState:
        """The state before the first step."""
        label = {"label": jnp.zeros(1, jnp.int32)} if self.classes else {}
        key = stream(self.seed, "init")
        params = self.model.init(key, jnp.zeros((1, *self.shape)), label)
        ema = jax.tree.map(jnp.copy, params)
        return TrainState(jnp.zeros((), jnp.int32), params, ema, self.optimizer.init(params), ())

    def denoiser(self, state: TrainState) -> Denoiser:
        """The network with averaged parameters."""
        return Denoiser(self.model, state.ema)
