"""Classifier guidance: the gradient of a classifier of noisy samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import expand
from diffjax.guidance.base import everywhere
from diffjax.guidance.query import Answer, Memory, Query, Weight
from diffjax.prediction import Prediction, Sample


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Classifier:
    """eps - w sigma grad log p(y | x_t), x0 by sigma^2 / alpha (arXiv:2105.05233, Alg. 2).

    log_p: (x, t, cond) -> log p(y | x_t) in nats, (B,), sample b of x[b], t[b], cond[b] only; a
    pytree, as `jax.tree_util.Partial(apply, params)`. conditional: whether the network is given the
    condition as well. With an unconditional network the weight 1 is the exact conditional model,
    as of all guidance. Network passes: one, at any weight; a row of another weight than 0 takes a
    gradient of the classifier besides. Not finite at alpha = 0, where x_t says nothing of y: end
    the process at t_max < 1. A library's part: no config names it. Raises ValueError without a
    condition.
    """

    log_p: Any
    conditional: bool = field(default=False, metadata={"static": True})

    @property
    def weighs(self) -> bool:
        return True

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weights: np.ndarray) -> int:
        return len(weights)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        cond, x, t, sde = query.conditions, query.x, query.t, query.sde
        prediction = query.under(cond if self.conditional else None)
        slope = lambda: jax.grad(lambda x: self.log_p(x, t, cond).sum())(x)
        shift = jax.lax.cond(everywhere(weight == 0), lambda: jnp.zeros_like(x), slope)
        each = expand(jnp.broadcast_to(weight, t.shape), x)
        shift = jnp.where(each == 0, 0, shift)
        alpha, sigma = (expand(a, x) for a in (sde.alpha(t), sde.sigma(t)))
        x0 = prediction.x0 + each * sigma**2 / alpha * shift
        eps = prediction.eps - each * sigma * shift
        return Prediction(x0, x0, eps, prediction.log_var), memory
