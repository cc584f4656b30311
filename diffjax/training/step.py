"""The train state and the one pure function that advances it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from diffjax.arrays import Params, stream
from diffjax.data.pipeline import Reading
from diffjax.denoiser import Model
from diffjax.io.trees import joined, only
from diffjax.objectives import Batch, Context, Objective
from diffjax.training.ema import RAW, Averages, update
from diffjax.training.health import Health, Watch

FROZEN = "frozen"
"""Name of the parameters of the network that are not trained, among those that are held."""


class Moving(NamedTuple):
    """What a step changes: a checkpoint holds it, and nothing else is needed to resume but what is
    held.

    step: also the index of the next batch. params: those that are trained. ema: their averages by
    name. loss: what the objective remembers. health: what is known of bad steps.
    """

    step: Int[Array, ""]
    params: Params
    ema: dict[str, Params]
    optimizer: Any
    loss: Any
    health: Health = Health()

    def holding(self, held: dict[str, Params]) -> TrainState:
        """The whole state."""
        return TrainState(*self, held=held)


class TrainState(NamedTuple):
    """All that training is: the fields of `Moving`, and what no step changes.

    held: parameters by name, under `frozen` those that belong to `params`; the others are the
    objective's. They have no gradient, no moments and no average, and are saved once.
    """

    step: Int[Array, ""]
    params: Params
    ema: dict[str, Params]
    optimizer: Any
    loss: Any
    health: Health = Health()
    held: dict[str, Params] = {}  # noqa: RUF012

    @property
    def moving(self) -> Moving:
        """What a checkpoint has, and a step may overwrite in place."""
        return Moving(*self[:-1])

    def weights(self, name: str = RAW) -> Params:
        """An average of the parameters, or the parameters themselves, with what is frozen."""
        return self.whole(self.params if name == RAW else self.ema[name])

    def whole(self, trained: Params) -> Params:
        """These parameters with those that are frozen."""
        return joined(trained, self.held[FROZEN]) if FROZEN in self.held else trained

    def trained(self, whole: Params) -> Params:
        """Those of these parameters that are not frozen."""
        return only(whole, self.params) if FROZEN in self.held else whole

    @property
    def kept(self) -> dict[str, Params]:
        """What the objective holds."""
        return {name: params for name, params in self.held.items() if name != FROZEN}


Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
"""(state, batch) -> the next state, metrics."""


def make_step(
    model: Model,
    loss: Objective,
    optimizer: optax.GradientTransformation,
    averages: Averages,
    seed: int,
    accumulate: int = 1,
    reading: Reading = Reading(),
    watch: Watch = Watch(),
) -> Step:
    """The train step `(state, batch) -> (state, metrics)`; its randomness follows from state.step.

    accumulate: number of parts of the batch whose gradients are computed one after the other, for
    the memory of one part. Part i is rows i, i + accumulate, ..., so that on many devices each part
    is spread over all of them. reading: what the device makes of a batch first. watch: which steps
    are skipped: of their state only the number and `health` change. Metrics stay on the device: the
    loss's own, `grad_norm`, and as True or False `skipped` and `spikes`.
    """
    key, key_data = stream(seed, "train"), stream(seed, "data")
    gradient = make_gradient(model, loss, accumulate)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        batch = reading.on_device(jax.random.fold_in(key_data, state.step), dict(batch))
        step_key = jax.random.fold_in(key, state.step)
        grads, (metrics, loss_state) = gradient(state, batch, step_key)
        updates, opt_state = optimizer.update(grads, state.optimizer, cast(Any, state.params))
        moved = cast(Params, optax.apply_updates(cast(Any, state.params), updates))
        params = state.trained(model.project(state.whole(moved)))
        size = len(batch["x"])
        ema = {k: update(state.ema[k], params, a(state.step, size)) for k, a in averages.items()}
        norm = optax.tree.norm(grads)
        (skip, spike), health = watch(state.health, metrics.pop("objective"), norm)
        metrics = metrics | {"grad_norm": norm, "skipped": skip, "spikes": spike}
        new = Moving(state.step, params, ema, opt_state, loss_state, state.health)
        kept = jax.tree.map(lambda old, new: jnp.where(skip, old, new), state.moving, new)
        return kept._replace(step=state.step + 1, health=health).holding(state.held), metrics

    return step


def make_gradient(
    model: Model, loss: Objective, accumulate: int
) -> Callable[[TrainState, Batch, Array], tuple[Params, tuple[dict[str, Array], Any]]]:
    """`(state, batch, key) -> (gradients, (metrics, state of the loss))`: see `make_step`."""

    def gradient(state: TrainState, batch: Batch, key: Array, loss_state: Any) -> Any:
        averages = {name: state.whole(params) for name, params in state.ema.items()}

        def objective(params: Params) -> tuple[Array, tuple[dict[str, Array], Any]]:
            context = Context(
                model=model,
                params=state.whole(params),
                batch=batch,
                key=key,
                state=loss_state,
                step=state.step,
                averages=averages,
                held=state.kept,
            )
            value, metrics, new = loss(context)
            return value, ({**metrics, "objective": value}, new)

        return jax.grad(objective, has_aux=True)(state.params)

    def accumulated(state: TrainState, batch: Batch, key: Array) -> Any:
        if accumulate == 1:
            return gradient(state, batch, key, state.loss)
        split = lambda a: a.reshape(-1, accumulate, *a.shape[1:]).swapaxes(0, 1)
        parts = jax.tree.map(split, dict(loss.before_split(batch, key)))

        def add(carry: Any, item: Any) -> Any:
            total, loss_state = carry
            i, part = item
            new = gradient(state, part, jax.random.fold_in(key, i), loss_state)
            grads, (metrics, loss_state) = new
            return (jax.tree.map(jnp.add, total, grads), loss_state), metrics

        zero = jax.tree.map(jnp.zeros_like, state.params)
        numbered = jnp.arange(accumulate), parts
        (total, loss_state), metrics = jax.lax.scan(add, (zero, state.loss), numbered)
        grads, metrics = jax.tree.map(lambda a: a / accumulate, total), mean(metrics)
        return grads, (metrics, loss_state)

    return accumulated


def mean(metrics: dict[str, Array]) -> dict[str, Array]:
    """Of each metric over its leading axis."""
    return jax.tree.map(lambda a: a.mean(0), metrics)


def scan(step: Step) -> Step:
    """K steps as one: batches with a leading axis (K, B, ...), metrics (K,)."""

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, dict[str, Array]]:
        def one(moving: Moving, batch: Batch) -> tuple[Moving, dict[str, Array]]:
            new, metrics = step(moving.holding(state.held), batch)
            return new.moving, metrics

        moving, metrics = jax.lax.scan(one, state.moving, batches)
        return moving.holding(state.held), metrics

    return steps
