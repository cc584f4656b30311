"""Distillation of guidance: a network learns a guided teacher for all weights, which it receives.

The network needs the condition `guidance` (`config.network.conditions`). In sampling, the guidance
weight then sets this condition, and a row takes one pass in place of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, expand, null
from diffjax.denoiser import Model
from diffjax.draws import DRAWS, Draw, Uniform
from diffjax.objectives.base import (
    Batch,
    Context,
    Metrics,
    Objective,
    Part,
    State,
    Task,
)
from diffjax.objectives.errors import ERRORS, l2
from diffjax.objectives.teachers import check_plain, check_teacher, taught
from diffjax.weights import WEIGHTS, Weight, uniform_output

UNIFORM = Uniform()


def check_range(weights: tuple[float, ...]) -> None:
    """Raise ValueError unless `weights` are two numbers, low <= high."""
    if len(weights) != 2 or not weights[0] <= weights[1]:
        raise ValueError(f"weights={weights}: needs two guidance weights, low <= high")


def check_task(task: Task) -> None:
    """Raise ValueError for data without a condition, and a network that takes no weight."""
    if task.conditions == ():
        raise ValueError("weights: the data have no condition to guide by; allowed: other losses")
    if task.takes_weight is False:
        raise ValueError(
            "weights: needs a network that takes the guidance weight, by "
            "config.network.conditions={'guidance': {'size': 1}}"
        )


def drawn(weights: tuple[float, ...], key: Key[Array, ""], size: int, cond: Cond) -> Cond:
    """Return the conditions with a weight (size,) for each sample, uniform in a range."""
    low, high = weights
    return {**cond, "guidance": jax.random.uniform(key, (size,), minval=low, maxval=high)}


@dataclass(frozen=True)
class GuidanceDistillation(Objective):
    """The loss E over t, eps, w of weight(t) mean(error(F(x_t, t, w) - F*)) (arXiv:2210.03142).

    F* is the output for the views ref + w (cond - ref) of the teacher, those of classifier-free
    guidance. teacher: the path of a run, an export or a published checkpoint. weights: the range
    of w, whose distribution is uniform. weight, draw, error: as in `Denoising`. Raises ValueError
    for settings out of range.

    >>> GuidanceDistillation(weights=(1.0, 3.0)).weights
    (1.0, 3.0)
    """

    loads: ClassVar[tuple[str, ...]] = ("teacher",)
    parts: ClassVar[Mapping[str, Part]] = {
        "weight": Part(WEIGHTS, partial=True),
        "error": Part(ERRORS, partial=True),
        "draw": Part(DRAWS),
    }

    teacher: Model | None = None
    weights: tuple[float, ...] = (1.0, 4.0)
    weight: Weight = uniform_output
    draw: Draw = UNIFORM
    error: Any = l2

    def __post_init__(self):
        check_range(self.weights)

    @property
    def drops_conditions(self) -> bool:
        return False

    @property
    def guides(self) -> tuple[float, ...]:
        return self.weights

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError where data, network or teacher do not suit the objective."""
        check_task(task)
        check_plain("guidance_distillation", self.draw, model, task)
        check_teacher(self.teacher, model)

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add the quantiles u of all times, which may be stratified over the whole batch."""
        return {**batch, "u": self.draw.positions(key, len(batch["x"]))}

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        batch, x0 = context.batch, context.batch["x"]
        model = context.model.bind(context.params)
        key_t, key_eps, key_weight, key_network = jax.random.split(context.key, 4)
        u = batch["u"] if "u" in batch else self.draw.positions(key_t, len(x0))
        t, factor = self.draw(model.sde, u.astype(x0.dtype), context.state)
        x = model.sde.perturb(x0, jax.random.normal(key_eps, x0.shape, x0.dtype), t)
        cond = batch.get("cond", {})
        seen = drawn(self.weights, key_weight, len(x0), {**cond, **batch.get("kept", {})})

        teacher = taught(self.teacher, context)
        p, q = teacher(x, t, cond), teacher(x, t, null(cond))
        w = expand(seen["guidance"], x0)
        guided = [b + w * (a - b) for a, b in ((p.x0, q.x0), (p.eps, q.eps))]
        a, b = (expand(c, x0) for c in model.parameterization.target(model.sde, t))
        target = jax.lax.stop_gradient(a * guided[0] + b * guided[1])

        output = model.output(context.params, x, t, seen, key_network)[0]
        each = model.space.mean(self.error(output - target), batch.get("mask"))
        counted = batch.get("weight", 1.0) * factor * self.weight(model, t)
        loss = (counted * each).mean()
        return loss, {"loss": loss}, context.state
