"""The loss of discrete diffusion: the variational bound in nats per token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import drop
from diffjax.denoiser import Model
from diffjax.discrete import PROCESSES, Masked, Process, of_tokens, tokens
from diffjax.draws import DRAWS, Draw, Uniform
from diffjax.objectives.base import (
    Batch,
    Context,
    Metrics,
    Objective,
    Part,
    State,
    Task,
    check_batch,
)
from diffjax.objectives.dropout import ConditionDropout, check_conditions, drops, hashable
from diffjax.parameterization import X0

BYTES = Masked()
STRATIFIED = Uniform(stratified=True)


@dataclass(frozen=True)
class Discrete(Objective):
    """The bound of -log p(x0) of a discrete process, as the mean over the tokens of an item.

    Data in [-1, 1] become the nearest of equally spaced levels, and the network, any that works on
    such data, predicts logits of them. The frame of config.sde has no effect, only its schedule
    does; the bound is the same for every schedule.

    process: what becomes of lost tokens, an entry of `PROCESSES`, with its number of levels. draw:
    the distribution of times, whose density is divided out. condition_dropout: as in `Denoising`.

    Metrics: `loss`, in nats per token; `bits`, the same in bits, which are bits per dimension.
    Raises ValueError for settings out of range.

    >>> Discrete(Masked(17)).process
    Masked(levels=17)
    """

    parts: ClassVar[Mapping[str, Part]] = {"process": Part(PROCESSES), "draw": Part(DRAWS)}

    process: Process = BYTES
    draw: Draw = STRATIFIED
    condition_dropout: ConditionDropout = 0.0

    def __post_init__(self):
        checks.instance(Process, "diffjax.discrete.Masked(17)", process=self.process)
        checks.instance(Draw, "diffjax.draws.Uniform()", draw=self.draw)
        object.__setattr__(self, "condition_dropout", hashable(self.condition_dropout))
        if not self.draw.importance or self.draw.init():
            raise ValueError(
                f"draw={self.draw}: the bound needs a density that is divided out and is not "
                f"learned; allowed: uniform, or others with importance=True"
            )

    @property
    def drops_conditions(self) -> bool:
        return drops(self.condition_dropout)

    def adapted(self, model: Model) -> Model:
        """Return the model whose network sees tokens as channels and returns logits."""
        states, levels = self.process.states, self.process.levels
        return replace(model, network=of_tokens(model.network, states, levels))

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError where model or data are not those of tokens."""
        self.draw.check(model.sde)
        check_conditions(self.condition_dropout, task.conditions)
        if not isinstance(model.parameterization, X0):
            asked = type(model.parameterization).__name__
            raise ValueError(f"discrete: predicts x0, not {asked}; allowed: parameterization x0")
        if model.sde.schedule.init():
            raise ValueError("discrete: the bound does not depend on a schedule; allowed: a fixed")
        if task.second_output or task.second_time:
            raise ValueError("discrete: allowed: learn_variance=False, no condition `to`")
        if task.dequantized:
            raise ValueError("discrete: allowed: data.dequantize=False")
        if (form := task.form) and form.dtype != "uint8":
            levels = dict(form.units).get("levels", 0)
            if levels != self.process.levels:
                has = f"{levels} levels" if levels else f"{form.dtype} without levels"
                raise ValueError(
                    f"process.levels={self.process.levels}: the data are {form.kind} {form.shape} "
                    f"of {has}; needs stored bytes, or items of as many levels"
                )

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add the quantiles u of all times, which may be stratified over the whole batch."""
        return {**batch, "u": self.draw.positions(key, len(batch["x"]))}

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        params, batch, state = context.params, context.batch, context.state
        check_batch(batch)
        model = context.model
        key_t, key_x, key_drop, key_network = jax.random.split(context.key, 4)
        x0 = tokens(batch["x"], self.process.levels)
        u = batch["u"] if "u" in batch else self.draw.positions(key_t, len(x0))
        t, factor = self.draw(model.sde, u, state)
        x = self.process.perturb(key_x, model.sde, x0, t)
        rates = 0.0 if context.evaluating else self.condition_dropout
        cond = drop(batch.get("cond", {}), key_drop, rates)
        label = model.parameterization.c_noise(model.sde, t)
        logits: Any = model.network.apply(
            *(params["network"], x.astype(batch["x"].dtype), label),
            {**cond, **batch.get("kept", {})},
            key=None if context.evaluating else key_network,
        )
        nats = self.process.bound(model.sde, logits, x0, x, t) / x0[0].size
        width = model.sde.t_max - model.sde.t_min
        loss = (batch.get("weight", 1.0) * factor * width * nats).mean()
        return loss, {"loss": loss, "bits": loss / math.log(2)}, state
