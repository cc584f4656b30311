"""The held-out loss, on data that training never sees, at noise that never changes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from diffjax.arrays import Params, stream
from diffjax.data.images import to_float
from diffjax.data.pipeline import masked, select
from diffjax.denoiser import Model
from diffjax.devices.mesh import Layout
from diffjax.objectives import Context, Objective
from diffjax.training.ema import RAW
from diffjax.training.experiment import Experiment
from diffjax.training.step import TrainState

GOLDEN = (5**0.5 - 1) / 2
Stack = Mapping[str, Any]
"""Items (K, B, ...): `x`, `cond`, `index`, a number `u` in [0, 1), and `counts`, 0 for padding."""


def held_out(experiment: Experiment, layout: Layout) -> Callable[[TrainState], dict[str, float]]:
    """Return a function from the state to the held-out loss.

    `held_out/loss` is that of the first average by name, `held_out/raw_loss` that of the parameters
    themselves. Other metrics of the loss, such as `bound`, appear under their names with the same
    prefixes. The items are `train.held_out` items spread evenly over the test split. Raises
    ConfigError without a test split.
    """
    stack = layout.put(read(experiment, layout.parts), 1)
    measure = make_held_out(experiment.model, experiment.loss, experiment.seed)
    mean = jax.jit(measure, out_shardings=layout.everywhere)

    def run(state: TrainState) -> dict[str, float]:
        averages = {name: state.weights(name) for name in state.ema}
        weights = lambda name: state.weights(name) | state.companions
        ask = lambda name: mean(weights(name), stack, state.kept, averages)
        by_prefix = {"": ask(min(state.ema)), "raw_": ask(RAW)}
        return {
            f"held_out/{a}{k}": float(v) for a, means in by_prefix.items() for k, v in means.items()
        }

    return run


def read(experiment: Experiment, devices: int) -> Stack:
    """Read the items in batches that `devices` share evenly; the last batch is padded."""
    items = select(experiment.source("test"), experiment.reading, experiment.train.held_out)
    num = len(items)
    size = min(experiment.train.batch_size, -(-num // devices) * devices)
    index = np.arange(-(-num // size) * size, dtype=np.int32).reshape(-1, size)
    # A low-discrepancy sequence: the first items cover the noise levels, however many there are.
    u = (np.random.default_rng(experiment.seed).random() + index * GOLDEN) % 1
    u = np.float32(np.floor(u * 2**24) / 2**24)  # never rounded up to 1
    batch = experiment.batch(items[index % num])
    batch["x"] = np.asarray(jax.jit(experiment.form.items.normalise)(batch["x"]))
    return batch | {"index": index, "u": u, "counts": np.float32(index < num)}


def make_held_out(model: Model, loss: Objective, seed: int) -> Callable[..., dict[str, Array]]:
    """Return the pure function `(params, stack, held={}, averages={}) -> means` of the metrics.

    The noise of item i is a function of (seed, i), and so is its u, whatever batch the item is in.
    The loss sees its initial state and step. There is no dropout, and no condition is dropped.
    """
    key = stream(seed, "held_out")
    still = without_dropout(model)

    def one(
        params: Params, held: Mapping[str, Params], averages: Mapping[str, Params], item: Stack
    ) -> dict[str, Array]:
        alone = jax.tree.map(lambda a: a[None], {k: item[k] for k in ("x", "cond", "u")})
        alone = masked({**alone, "x": to_float(alone["x"])})
        context = Context(
            model=still,
            params=params,
            batch=alone,
            key=jax.random.fold_in(key, item["index"]),
            state=loss.init_state(model),
            averages=averages,
            held=held,
            evaluating=True,
        )
        return {k: v for k, v in loss(context)[1].items() if not v.ndim}

    def mean(
        params: Params,
        stack: Stack,
        held: Mapping[str, Params] = {},
        averages: Mapping[str, Params] = {},
    ) -> dict[str, Array]:
        each = jax.vmap(functools.partial(one, params, held, averages))
        values = jax.lax.map(each, dict(stack))
        count = stack["counts"].sum()
        return {k: jnp.sum(v * stack["counts"]) / count for k, v in values.items()}

    return mean


def without_dropout(model: Model) -> Model:
    """Return the model with a network that ignores its key, so that it never applies dropout."""
    apply = model.network.apply

    def evaluated(params: Params, x: Any, c_noise: Any, cond: Any, *, key: Any = None) -> Any:
        return apply(params, x, c_noise, cond)

    return dataclasses.replace(model, network=dataclasses.replace(model.network, apply=evaluated))
