"""Inpainting with soft masks, as a guidance that keeps values of an image until their time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax import checks
from diffjax.arrays import expand, pytree
from diffjax.guidance import Conditional, Guidance, Query
from diffjax.guidance.base import Around
from diffjax.guidance.query import Answer, Memory, Weight, with_x0
from diffjax.samplers.starts import last_part


@pytree
@dataclass(frozen=True)
class Inpainted(Around):
    """Guidance that keeps each value of an image until its time: inpainting with a soft mask.

    x0: the image (B, ...). since: (B, ...), the time from which a value is free, -1 for never.
    Before that time the prediction of the value is that of the image, so its state is the noised
    image. Use `inpainting` to construct one. inside: predicts the free values.

    >>> import jax
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
        checks.same_shape(query.x.shape, x0=self.x0, since=self.since)
        free = expand(query.t, query.x) <= self.since.astype(query.t.dtype)
        return with_x0(query, prediction, jnp.where(free, prediction.x0, self.x0)), memory


def inpainting(
    x0: Float[Array, "b *d"],
    strength: Any,
    times: np.ndarray,
    guidance: Guidance = Conditional(),
) -> Inpainted:
    """Return the guidance for images x0 (B, ...) under a soft mask (arXiv:2306.00950).

    strength: numbers in [0, 1] that broadcast to x0. A value of strength 0 is kept exactly, one of
    strength 1 is sampled, and one between is free in the last `strength` of the steps, as in image
    to image with this strength (`start_from`). times: the grid of the table, from its first row.
    Start from the image noised to the first time (`start_from(sde, x0, times, 1.0, keys)`).

    It is replacement of the prediction, whose samples are not those of the posterior of the free
    values: they know the kept ones at their present noise only.

    >>> soft = inpainting(jnp.zeros((1, 3)), np.array([0, 0.5, 1]), np.linspace(1, 0, 5))
    >>> soft.since.tolist()  # never, from the second half, from the start
    [[-1.0, 0.5, 1.0]]
    """
    checks.samples(x0, "x0")
    strength = np.broadcast_to(np.asarray(strength, np.float64), x0.shape)
    if not ((strength >= 0) & (strength <= 1)).all():
        value = strength[~((strength >= 0) & (strength <= 1))][0]
        raise ValueError(f"strength={value:g}: needs 0 <= strength <= 1")
    levels, place = np.unique(strength, return_inverse=True)
    first = [last_part(times, float(level))[0] if level > 0 else -1.0 for level in levels]
    since = np.asarray(first)[place].reshape(x0.shape)
    return Inpainted(x0, jnp.asarray(since, x0.dtype), guidance)
