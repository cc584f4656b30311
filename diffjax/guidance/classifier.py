"""Classifier guidance: the gradient of a classifier of noisy samples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import expand, pytree
from diffjax.guidance.base import Guidance, everywhere
from diffjax.guidance.query import Answer, Memory, Query, Weight
from diffjax.prediction import Prediction, Sample


@pytree
@dataclass(frozen=True)
class Classifier:
    """Classifier guidance: eps - w sigma grad log p(y | x_t) (arXiv:2105.05233, Alg. 2).

    x0 moves by w sigma^2 / alpha times the gradient. log_p: (x, t, cond) -> log p(y | x_t) in nats,
    (B,), where sample b depends on x[b], t[b] and cond[b] only; a pytree, such as
    `jax.tree_util.Partial(apply, params)`. conditional: whether the network receives the condition
    as well. With an unconditional network the weight 1 is the exact conditional model, as for all
    guidance. A row takes one network pass at any weight, and a gradient of the classifier at any
    weight other than 0. skips: whether rows of weight 0 leave out the gradient. The result is not
    finite at alpha = 0, where x_t does not depend on y: use a process with t_max < 1. It is
    available in Python only, not in configs. Raises ValueError without a condition.

    >>> from diffjax import analytic, schedules, sde
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(sde.Flow(schedules.Logit()))
    >>> query = Query(denoise, jnp.ones((1, 1)), jnp.full(1, 0.5), {"label": jnp.zeros(1, int)})
    >>> guidance = Classifier(jax.tree_util.Partial(lambda x, t, cond: 0.5 * x[:, 0]))
    >>> float(guidance(query, jnp.asarray(2.0), ())[0].x0[0, 0])  # 1 + 2 * 0.5**2 / 0.5 * 0.5
    1.5
    """

    log_p: Any
    conditional: bool = field(default=False, metadata={"static": True})
    skips: bool = field(default=True, metadata={"static": True})

    @property
    def weighs(self) -> bool:
        return True

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weights: np.ndarray) -> int:
        return len(weights)

    def steady(self) -> Guidance:
        return replace(self, skips=False)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        cond, x, t, sde = query.conditions, query.x, query.t, query.sde
        prediction = query.under(cond if self.conditional else None)
        slope = lambda: jax.grad(lambda x: self.log_p(x, t, cond).sum())(x)
        nothing = lambda: jnp.zeros_like(x)
        shift = jax.lax.cond(everywhere(weight == 0), nothing, slope) if self.skips else slope()
        each = expand(jnp.broadcast_to(weight, t.shape), x)
        shift = jnp.where(each == 0, 0, shift)
        alpha, sigma = (expand(a, x) for a in (sde.alpha(t), sde.sigma(t)))
        x0 = prediction.x0 + each * sigma**2 / alpha * shift
        eps = prediction.eps - each * sigma * shift
        return Prediction(x0, x0, eps, prediction.log_var), memory
