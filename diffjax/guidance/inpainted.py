"""Guidance that keeps a part of an image: inpainting with soft masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from diffjax import checks
from diffjax.arrays import expand, pytree
from diffjax.guidance.base import Around, Conditional, Guidance
from diffjax.guidance.query import Answer, Memory, Query, Weight, with_x0


@pytree
@dataclass(frozen=True)
class Inpainted(Around):
    """Guidance that keeps each value of an image until its time: inpainting with a soft mask.

    x0: the images (B, ...), or one for all samples, (1, ...). since: of the same shape, the time
    from which a value is free, -1 for never. Before that time the prediction of the value is that
    of the image, so its state is the noised image. `inverse.inpainting` constructs one from a mask
    and a grid. inside: predicts the free values.

    >>> from diffjax import analytic, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow)
    >>> kept = Inpainted(jnp.ones((1, 2)), jnp.array([[-1.0, 1.0]]))  # the second value is free
    >>> query = Query(denoise, jnp.full((1, 2), 0.25), jnp.full(1, 0.5))
    >>> kept(query, jnp.ones(()), ())[0].x0.round(4).tolist()
    [[1.0, 0.25]]
    """

    x0: Any
    since: Any
    inside: Guidance = field(default=Conditional())

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        prediction, memory = self.inside(query, weight, memory)
        count = 1 if len(self.x0) == 1 else len(query.x)
        checks.same_shape((count, *query.x.shape[1:]), x0=self.x0, since=self.since)
        free = expand(query.t, query.x) <= self.since.astype(query.t.dtype)
        kept = with_x0(query, prediction, jnp.where(free, prediction.x0, self.x0))
        return kept._replace(eps=jnp.where(free, prediction.eps, kept.eps)), memory
