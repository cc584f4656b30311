"""The train state and the one pure function that advances it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import optax
from jaxtyping import Array, Int

from diffjax.arrays import Params, stream
from diffjax.data.images import to_float
from diffjax.denoiser import Model
from diffjax.losses import Batch, Loss
from diffjax.training import ema as averages
from diffjax.training.ema import Decay


class TrainState(NamedTuple):
    """All that training is: a checkpoint holds it, nothing else is needed to go on."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    optimizer: Any
    loss: Any


def make_step(
    model: Model, loss: Loss, optimizer: optax.GradientTransformation, decay: Decay, seed: int
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """The train step `(state, batch) -> (state, metrics)`; its randomness follows from state.step.

    Metrics are scalars on the device: the loss's own, and `grad_norm`.
    """
    key = stream(seed, "train")

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        batch = {**batch, "x": to_float(batch["x"])}
        step_key = jax.random.fold_in(key, state.step)

        def objective(params: Params) -> tuple[Array, tuple[dict[str, Array], Any]]:
            value, metrics, loss_state = loss(model, params, batch, step_key, state.loss)
            return value, (metrics, loss_state)

        grads, (metrics, loss_state) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.optimizer, cast(Any, state.params))
        params = cast(Params, optax.apply_updates(cast(Any, state.params), updates))
        ema = averages.update(state.ema, params, decay(state.step))
        metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, ema, opt_state, loss_state), metrics

    return step
