"""The train state and the one pure function that advances it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
"""Name, among the held parameters, of the parameters of the network that are not trained."""


class Moving(NamedTuple):
    """The part of the state that a step changes, and that a checkpoint contains.

    A run resumes from it and the held parameters alone. step: the number of steps so far, and the
    index of the next batch. params: the trained parameters. ema: their averages by name. optimizer:
    the state of the optimizer. loss: the state of the objective. health: the record of bad steps.
    """

    step: Int[Array, ""]
    params: Params
    ema: dict[str, Params]
    optimizer: Any
    loss: Any
    health: Health = Health()

    def holding(self, held: dict[str, Params]) -> TrainState:
        """Return the whole state, with these held parameters."""
        return TrainState(*self, held=held)


class TrainState(NamedTuple):
    """The complete state of training: the fields of `Moving`, and parameters that no step changes.

    held: parameters by name; those under `frozen` complete `params`, and the others belong to the
    objective. Held parameters have no gradient, no moments and no average, and are saved once.
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
        """The part that a checkpoint contains and that a step may overwrite in place."""
        return Moving(*self[:-1])

    def weights(self, name: str = RAW) -> Params:
        """Return the parameters of the model, with the frozen ones and without companions.

        name: the name of their average; `raw` for the parameters themselves.
        """
        own = {k: v for k, v in self.params.items() if k not in self.companions}
        return self.whole(own if name == RAW else self.ema[name])

    @property
    def companions(self) -> Params:
        """The networks that are trained beside the model, by name; they have no average."""
        averaged = next(iter(self.ema.values()), self.params)
        return {k: v for k, v in self.params.items() if k not in averaged}

    def whole(self, trained: Params) -> Params:
        """Return these trained parameters together with the frozen ones."""
        return joined(trained, self.held[FROZEN]) if FROZEN in self.held else trained

    def trained(self, whole: Params) -> Params:
        """Return the parameters among `whole` that are not frozen."""
        return only(whole, self.params) if FROZEN in self.held else whole

    @property
    def kept(self) -> dict[str, Params]:
        """The held parameters of the objective."""
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
    """Return the train step `(state, batch) -> (state, metrics)`.

    Its randomness is a function of the seed and of state.step. accumulate: the number of parts of
    the batch whose gradients are computed one after the other, with the memory of one part. Part i
    has the rows i, i + accumulate, ..., so that on many devices each part is spread over all of
    them. reading: the preprocessing of a batch on the device. watch: decides which steps are
    skipped; a skipped step changes only `step` and `health`. The metrics stay on the device: those
    of the loss, `grad_norm`, and the booleans `skipped` and `spikes`.
    """
    key, key_data = stream(seed, "train"), stream(seed, "data")
    gradient = make_gradient(model, loss, accumulate)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        batch = reading.on_device(jax.random.fold_in(key_data, state.step), dict(batch))
        step_key = jax.random.fold_in(key, state.step)
        grads, (metrics, loss_state) = gradient(state, batch, step_key)
        updates, opt_state = optimizer.update(grads, state.optimizer, cast(Any, state.params))
        moved = cast(Params, optax.apply_updates(cast(Any, state.params), updates))
        params = state.trained(model.project(state.whole(moved), loss.companions))
        now, before = (params, opt_state), (state.params, state.optimizer)
        params, opt_state = resting(loss.turns(state.step), state.params, before, now)
        size = len(batch["x"])
        own = {k: v for k, v in params.items() if k not in loss.companions}
        ema = {k: update(state.ema[k], own, a(state.step, size)) for k, a in averages.items()}
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
    """Return `(state, batch, key) -> (gradients, (metrics, loss state))`: see `make_step`."""

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
    """Return the mean of each metric over its leading axis."""
    return jax.tree.map(lambda a: a.mean(0), metrics)


def scan(step: Step) -> Step:
    """Return K steps as one: it takes batches (K, B, ...) and returns metrics (K, ...)."""

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, dict[str, Array]]:
        def one(moving: Moving, batch: Batch) -> tuple[Moving, dict[str, Array]]:
            new, metrics = step(moving.holding(state.held), batch)
            return new.moving, metrics

        moving, metrics = jax.lax.scan(one, state.moving, batches)
        return moving.holding(state.held), metrics

    return steps


def resting(turns: Mapping[str, Any], params: Params, before: Any, now: Any) -> Any:
    """Return the tree `now`, with the leaves of `before` for parameters whose turn it is not.

    turns: names of entries of `params` -> whether it is their turn. before, now: trees that hold
    parts of the shape of `params`, such as the state of an optimizer; leaves outside of these parts
    are always new.

    >>> params = {"network": jnp.zeros(2), "critic": jnp.zeros(2)}
    >>> now = {"network": jnp.ones(2), "critic": jnp.ones(2)}
    >>> new = resting({"network": False}, params, params, now)
    >>> new["network"].tolist(), new["critic"].tolist()
    ([0.0, 0.0], [1.0, 1.0])
    """
    if not turns:
        return now

    def one(path: tuple[Any, ...], old: Any, new: Any) -> Any:
        keys = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        name = next((key for key in keys if key in params), "")
        return jnp.where(turns[name], new, old) if name in turns else new

    return jax.tree_util.tree_map_with_path(one, before, now)
