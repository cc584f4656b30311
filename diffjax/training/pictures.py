"""Pictures that a run draws during training: samples, or what its objective shows."""

from __future__ import annotations

import functools

import jax
import numpy as np

from diffjax.arrays import Params, stream
from diffjax.data.pipeline import select
from diffjax.denoiser import Model
from diffjax.devices.mesh import Layout
from diffjax.generation.program import generate
from diffjax.objectives import Batch, Context, Objective
from diffjax.training.experiment import Experiment
from diffjax.training.step import TrainState


def picture(experiment: Experiment, layout: Layout, state: TrainState) -> np.ndarray:
    """Draw a picture of samples with the first average by name, from fixed seeds.

    Labels cycle through the classes. An objective that does not denoise shows held-out items side
    by side (`Objective.shown`). Raises FloatingPointError where sampling failed.
    """
    e, num = experiment, experiment.train.samples
    if not e.loss.denoises:
        return side_by_side(e, layout, state)
    cond = conditions = e.conditions(num)
    key = stream(e.seed, "sample")
    even = num % layout.parts == 0
    index, cond = layout.put((np.arange(num), cond), 0 if even else None)
    denoise = e.denoiser(state.weights(min(state.ema)))
    plan = layout.put(e.plan(denoise.sde))
    result = generate(denoise, plan, key, index, cond, shape=e.shape)
    plan.check(result._replace(bad=layout.whole(result.bad)))
    x = e.form.completed(e.decoding(layout.whole(result.x)), conditions)
    stored = e.decoding.stored
    return stored.picture(stored.items.joined(x, conditions), conditions.get("label"))


def side_by_side(experiment: Experiment, layout: Layout, state: TrainState) -> np.ndarray:
    """Draw what the objective shows of the first held-out items, with the first average by name."""
    e = experiment
    items = select(e.unseen, e.reading, e.train.samples)
    index = np.arange(len(items))
    batch = e.batch(items[index])
    batch["x"] = np.asarray(e.form.items.normalise(batch["x"]))
    batch = layout.put(batch, 0 if len(items) % layout.parts == 0 else None)
    weights, key = state.weights(min(state.ema)), stream(e.seed, "sample")
    panels = [layout.whole(x) for x in _shown(e.loss, e.model, weights, batch, key)]
    return np.concatenate([e.form.picture(e.form.denormalise(x)) for x in panels], axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shown(loss: Objective, model: Model, params: Params, batch: Batch, key: jax.Array):
    return loss.shown(Context(model, params, batch, key, evaluating=True))
