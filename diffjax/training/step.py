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
from diffjax.objectives.denoising import Batch, Denoising
from diffjax.training.ema import Averages, update
from diffjax.training.health import Health, Watch


class TrainState(NamedTuple):
    """All that training is: a checkpoint holds it, nothing else is needed to go on.

    step: also the index of the next batch. ema: the averages of the parameters by name. loss: that
    of the distribution of t. health: what is known of bad steps.
    """

    step: Int[Array, ""]
    params: Params
    ema: dict[str, Params]
    optimizer: Any
    loss: Any
    health: Health = Health()


Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
"""(state, batch) -> the next state, metrics."""


def make_step(
    model: Model,
    loss: Denoising,
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

    def gradient(params: Params, batch: Batch, key: Array, loss_state: Any) -> Any:
        def objective(params: Params) -> tuple[Array, tuple[dict[str, Array], Any]]:
            value, metrics, new = loss(model, params, batch, key, loss_state)
            return value, ({**metrics, "objective": value}, new)

        return jax.grad(objective, has_aux=True)(params)

    def accumulated(params: Params, batch: Batch, key: Array, loss_state: Any) -> Any:
        if accumulate == 1:
            return gradient(params, batch, key, loss_state)
        split = lambda a: a.reshape(-1, accumulate, *a.shape[1:]).swapaxes(0, 1)
        # The times are drawn for all parts at once: stratified over the whole batch.
        u = loss.draw.positions(key, len(batch["x"]))
        parts = jax.tree.map(split, {**batch, "u": u})

        def add(carry: Any, item: Any) -> Any:
            total, loss_state = carry
            i, part = item
            new = gradient(params, part, jax.random.fold_in(key, i), loss_state)
            grads, (metrics, loss_state) = new
            return (jax.tree.map(jnp.add, total, grads), loss_state), metrics

        zero = jax.tree.map(jnp.zeros_like, params)
        numbered = jnp.arange(accumulate), parts
        (total, loss_state), metrics = jax.lax.scan(add, (zero, loss_state), numbered)
        grads, metrics = jax.tree.map(lambda a: a / accumulate, total), mean(metrics)
        return grads, (metrics, loss_state)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        batch = reading.on_device(jax.random.fold_in(key_data, state.step), dict(batch))
        step_key = jax.random.fold_in(key, state.step)
        grads, (metrics, loss_state) = accumulated(state.params, batch, step_key, state.loss)
        updates, opt_state = optimizer.update(grads, state.optimizer, cast(Any, state.params))
        moved = cast(Params, optax.apply_updates(cast(Any, state.params), updates))
        params = model.project(moved)
        size = len(batch["x"])
        ema = {k: update(state.ema[k], params, a(state.step, size)) for k, a in averages.items()}
        norm = optax.tree.norm(grads)
        (skip, spike), health = watch(state.health, metrics.pop("objective"), norm)
        metrics = metrics | {"grad_norm": norm, "skipped": skip, "spikes": spike}
        new = TrainState(state.step, params, ema, opt_state, loss_state, state.health)
        kept = jax.tree.map(lambda old, new: jnp.where(skip, old, new), state, new)
        return kept._replace(step=state.step + 1, health=health), metrics

    return step


def mean(metrics: dict[str, Array]) -> dict[str, Array]:
    """Of each metric over its leading axis."""
    return jax.tree.map(lambda a: a.mean(0), metrics)


def scan(step: Step) -> Step:
    """K steps as one: batches with a leading axis (K, B, ...), metrics (K,)."""
    return lambda state, batches: jax.lax.scan(step, state, batches)
