"""Replacement: what is measured is put into x_t before each pass of the network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax.numpy as jnp

from diffjax.arrays import expand, pytree
from diffjax.guidance.base import Conditional, Guidance
from diffjax.guidance.query import Answer, Memory, Query, Weight
from diffjax.inverse.measurement import MeasuredGuidance, Measurement
from diffjax.inverse.posterior import check_no_flow_map
from diffjax.inverse.spectral import Decomposed, check_spectral


@pytree
@dataclass(frozen=True)
class Replacement(MeasuredGuidance):
    """Replacement of the measured part of x_t by that of alpha y + sigma z, with fresh noise z.

    The network sees x_t + A^+ (alpha y + sigma A z - A x_t), and the measured part of its x0 is
    that of y. The noise std of the measurement is ignored. With a mask and any first-order sampler
    this is the inpainting of arXiv:2011.13456, app. I.2; with the table `repaint` it is RePaint
    (arXiv:2201.09865, Alg. 1). `Infinite` replaces x0 alone, without fresh noise.

    It is exact for no data: the network's prediction of the remainder sees a measured part without
    a joint past. For two values of unit variance and correlation 0.8, of which one is known to be
    1.2, the other one has the distribution N(0.96, 0.36), and 1,600 ancestral steps sample N(0.60,
    0.49). RePaint approaches the exact distribution as its repeats and its steps both grow.

    Raises ValueError for an operator without a spectrum, for a flow map, and where there are no
    random numbers, as in a likelihood.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow)
    >>> from diffjax.inverse import Mask, Measurement
    >>> known = Measurement(jnp.array([[1.2, 0.0]]), Mask(jnp.array([[True, False]])))
    >>> x, keys = samplers.initial(flow, jax.random.split(jax.random.key(0), 3), (2,))
    >>> table = samplers.ancestral(flow, grids.uniform(flow, 2))
    >>> x = samplers.sample(denoise, table, x, keys, guidance=Replacement(known))
    >>> x[:, 0].round(3).tolist()  # the value that is known
    [1.2..., 1.2..., 1.2...]
    """

    measurement: Measurement
    inside: Guidance = field(default=Conditional())

    def __post_init__(self):
        if isinstance(self.measurement, Measurement):
            check_spectral(type(self).__name__, self.measurement)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        check_no_flow_map(query, type(self).__name__)
        x, y = query.x, self.measurement.values(query.x)
        alpha, sigma = query.sde.alpha(query.t), query.sde.sigma(query.t)
        parts = Decomposed(self.measurement.operator, x)
        noise = expand(sigma, x) * query.normal(0)
        moved = x + parts.lift(expand(alpha, y) * y + parts.forward(noise - x))
        prediction, memory = self.inside(replace(query, x=moved), weight, memory)
        x0 = prediction.x0 + parts.lift(y - parts.forward(prediction.x0))
        # eps so that x_t = alpha x0 + sigma eps holds for the x_t of the sampler, not for `moved`.
        ratio = expand(jnp.exp(query.sde.logsnr(query.t) / 2), x)
        eps = prediction.eps + (x - moved) / expand(sigma, x) - ratio * (x0 - prediction.x0)
        return prediction._replace(output=x0, x0=x0, eps=eps), memory
