"""Diffusion forcing: the denoising loss with a time per lane, for samplers of lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from diffjax import checks, likelihood
from diffjax.arrays import dims, drop, expand
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
    check_batch,
)
from diffjax.objectives.dropout import ConditionDropout, check_conditions, drops, hashable
from diffjax.objectives.errors import ERRORS, l2
from diffjax.samplers.lanes import positions
from diffjax.spaces import PLAIN
from diffjax.weights import WEIGHTS, Weight, uniform_output

UNIFORM = Uniform()


@dataclass(frozen=True)
class Forcing(Objective):
    """Diffusion forcing (arXiv:2407.01392): E of mean(weight(t) error(F - (a x0 + b eps))).

    Each lane, a group of consecutive positions of the leading axis of an item, has a time t of its
    own, and the mean is over the values of all lanes that have noise. So one network samples by
    every schedule of lane times, given any known lanes (`samplers.lanes`).

    sizes: those of the lanes, repeated until they cover the axis: (1,) is a lane for each position.
    shared: the probability that all lanes of an item share one time, as in ordinary sampling.
    known: the probability of each lane to be known: it has no noise, the time t_min and no error.
    Where this would leave no lane with noise, none is known.
    past: the probability that an item has a known past, the first n lanes, with n uniform from 1 to
    all but one. between: the probability that, instead, its first and its last lane are known, as
    for plans from a start to a goal. weight, draw, error, condition_dropout: as in `Denoising`; the
    draw is that of each lane.

    Metrics: `loss`; `loss_at_logsnr` (2, bins), sums and counts of the loss of positions by noise
    level. Raises ValueError for settings out of range.

    >>> from diffjax import nets, parameterization, schedules, sde
    >>> apply = lambda params, x, *_, key=None: 0 * x
    >>> network = nets.Network(lambda *shapes: {}, apply, lane=lambda shape: 1)
    >>> model = Model(sde.Flow(schedules.Logit()), parameterization.X0(), network)
    >>> batch = {"x": jnp.full((4, 6, 1), 3.0)}
    >>> loss, metrics, state = Forcing()(Context(model, {"network": {}}, batch, jax.random.key(0)))
    >>> float(loss), sorted(metrics)  # the network predicts 0, and x0 is 3
    (9.0, ['loss', 'loss_at_logsnr'])
    """

    masks: ClassVar[bool] = True
    lanes: ClassVar[bool] = True
    parts: ClassVar[Mapping[str, Part]] = {
        "weight": Part(WEIGHTS, partial=True),
        "error": Part(ERRORS, partial=True),
        "draw": Part(DRAWS),
    }

    weight: Weight = uniform_output
    draw: Draw = UNIFORM
    error: Callable[..., Any] = l2
    condition_dropout: ConditionDropout = 0.0
    sizes: tuple[int, ...] = (1,)
    shared: float = 0.1
    known: float = 0.0
    past: float = 0.1
    between: float = 0.0

    def __post_init__(self):
        by_name = "names are for configs only"
        known = f"those of diffjax.weights, objectives.ERRORS; {by_name}"
        checks.function(known, weight=self.weight, error=self.error)
        checks.instance(Draw, f"diffjax.draws.Uniform(); {by_name}", draw=self.draw)
        object.__setattr__(self, "condition_dropout", hashable(self.condition_dropout))
        object.__setattr__(self, "sizes", tuple(self.sizes))
        positions(sum(self.sizes), self.sizes)
        checks.within(0, 1, shared=self.shared, known=self.known, past=self.past)
        checks.within(0, 1 - self.past, between=self.between)
        if self.known == 1:
            raise ValueError("known=1: no lane has noise; needs known < 1")

    @property
    def drops_conditions(self) -> bool:
        return drops(self.condition_dropout)

    def check(self, model: Model, task: Task = Task()) -> None:
        """Raise ValueError where model, draw or data are incompatible with lanes."""
        self.draw.check(model.sde)
        one = jnp.ones(1)
        jax.eval_shape(lambda: (self.weight(model, one * model.sde.t_min), self.error(one)))
        if jax.tree.leaves(self.draw.init()):
            raise ValueError(
                f"draw: {type(self.draw).__name__} learns from one loss per item; allowed: draws "
                f"without a state, such as uniform"
            )
        if model.sde.schedule.init():
            raise ValueError("a learned schedule needs name='denoising', weight='elbo', bound=True")
        if model.space != PLAIN:
            raise ValueError(f"{model.space}: lanes of different noise leave it; allowed: Plain()")
        if task.second_output:
            raise ValueError("config.network.learn_variance=True: is not trained; allowed: False")
        check_conditions(self.condition_dropout, task.conditions)
        if task.form:
            check_sizes(self.sizes, model, task.form.shape)

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add the quantiles u of an item's time, which may be stratified over the whole batch."""
        return {**batch, "u": self.draw.positions(key, len(batch["x"]))}

    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        params, batch, state = context.params, context.batch, context.state
        check_batch(batch)
        model, x0 = context.model.bind(params), batch["x"]
        key_t, key_eps, key_drop, key_network = jax.random.split(context.key, 4)
        lane = positions(x0.shape[1], self.sizes)
        t, factor, known = self._times(model, batch, key_t, state, int(lane[-1]) + 1)
        t, factor, free = t[:, lane], factor[:, lane], ~known[:, lane]
        eps = jax.random.normal(key_eps, x0.shape, x0.dtype)
        x = jnp.where(expand(free, x0), model.sde.perturb(x0, eps, t), x0)
        rates = 0.0 if context.evaluating else self.condition_dropout
        cond = {**drop(batch.get("cond", {}), key_drop, rates), **batch.get("kept", {})}
        t_seen = jnp.where(free, t, model.sde.t_min)
        output, _ = model.output(params, x, t_seen, cond, key_network)

        a, b = model.parameterization.target(model.sde, t)
        error = self.error(output - expand(a, x0) * x0 - expand(b, x0) * eps)
        weighted = expand(self.weight(model, t) * factor, x0) * error
        there = jnp.broadcast_to(batch.get("mask", jnp.ones_like(x0[:1])), x0.shape)
        there = there * expand(free, x0)
        each = (weighted * there).sum(dims(x0)) / jnp.maximum(there.sum(dims(x0)), 1)
        metrics = {
            "loss": (batch.get("weight", 1.0) * each).mean(),
            "loss_at_logsnr": _by_logsnr(model, t, weighted, there),
        }
        return metrics["loss"], metrics, state

    def _times(
        self, model: Model, batch: Batch, key: Key[Array, ""], state: State, count: int
    ) -> tuple[Float[Array, "b g"], Float[Array, "b g"], Bool[Array, "b g"]]:
        """Return the times of `count` lanes, the factors of their losses, and which are known."""
        size, dtype = len(batch["x"]), batch["x"].dtype
        key_u, key_own, key_shared, key_known, key_past, key_n = jax.random.split(key, 6)
        u = batch["u"] if "u" in batch else self.draw.positions(key_u, size)
        # u + v modulo 1 is uniform and independent of u, so each lane has the same distribution.
        own = jax.random.uniform(key_own, (size, count))
        shared = jax.random.bernoulli(key_shared, self.shared, (size, 1))
        u = (u.astype(dtype)[:, None] + jnp.where(shared, 0, own.astype(dtype))) % 1
        t, factor = self.draw(model.sde, u, state)
        known = jax.random.bernoulli(key_known, self.known, (size, count))
        if count > 1:
            kind = jax.random.uniform(key_past, (size, 1))
            n, lane = jax.random.randint(key_n, (size, 1), 1, count), jnp.arange(count)[None]
            known |= (kind < self.past) & (lane < n)
            known |= (kind >= 1 - self.between) & (lane % (count - 1) == 0)
        return t, factor, known & ~known.all(1, keepdims=True)


def check_sizes(sizes: tuple[int, ...], model: Model, shape: tuple[int, ...]) -> None:
    """Raise ValueError for lanes that items of this shape, or the network, cannot have.

    >>> from types import SimpleNamespace
    >>> from diffjax import nets
    >>> check_sizes((1,), SimpleNamespace(network=nets.dit(patch=2)), (6, 1))
    Traceback (most recent call last):
    ValueError: sizes=(1,): Network(DiT) gives 2 consecutive positions one time; needs multiples...
    """
    positions(shape[0], sizes)
    together = model.network.lane(shape)
    if not together:
        raise ValueError(
            f"{model.network}: takes one time per sample; allowed: dit without joint tokens, "
            f"unet with time_attention, mlp with lanes=True, each without a second time"
        )
    if bad := [size for size in sizes if size % together]:
        raise ValueError(
            f"sizes={sizes}: {model.network} gives {together} consecutive positions one time; "
            f"needs multiples of {together}, not {bad[0]}"
        )


def _by_logsnr(model: Model, t: Array, loss: Array, there: Array) -> Array:
    """Return the sums of the losses of positions in each bin of log-SNR, and their counts."""
    count = there.sum(tuple(range(2, there.ndim)))
    mean = (loss * there).sum(tuple(range(2, there.ndim))) / jnp.maximum(count, 1)
    inside = likelihood.at_level(model.sde, t.ravel()) * (count > 0).ravel()[:, None]
    return jax.lax.stop_gradient(jnp.stack([mean.ravel() @ inside, inside.sum(0)]))
