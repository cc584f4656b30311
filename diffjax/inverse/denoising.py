"""The exact posterior of pure denoising, y = factor x0 + std n, for any network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import checks
from diffjax.arrays import expand, pytree
from diffjax.guidance.base import Conditional, Guidance
from diffjax.guidance.query import Answer, Memory, Query, Weight
from diffjax.inverse.measurement import MeasuredGuidance, Measurement
from diffjax.inverse.operators.simple import Scale
from diffjax.inverse.posterior import check_no_flow_map


@pytree
@dataclass(frozen=True)
class Joint(MeasuredGuidance):
    """E[x0 | x_t, y] for y = factor x0 + std n, exactly: one pass at a lower noise level.

    x_t / alpha and y / factor are two independent noisy copies of x0. Their mean, weighted by the
    precisions alpha^2 / sigma^2 and factor^2 / std^2, is a noisy copy whose precision is the sum,
    and the network predicts x0 from it at the time of that noise level (arXiv:2506.13614). The
    result is exact for any data, as far as the network is.

    The network is asked at noise levels down to rho / sqrt(1 + (factor rho / std)^2) < rho, where
    rho = sigma / alpha is that of the last row: a std far above that rho keeps it within the levels
    of training. Raises ValueError for another operator than `Scale` by one number > 0, for std = 0,
    and for a flow map.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.guidance import GuidedDenoiser
    >>> from diffjax.inverse import Measurement, Scale
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)  # alpha = sigma = 1 / 2 at t = 1 / 2
    >>> denoise = analytic.gaussian(jnp.zeros(1), jnp.ones(1)).denoiser(flow)
    >>> joint = Joint(Measurement(jnp.ones((1, 1)), Scale(1.0), std=1.0))
    >>> x0 = GuidedDenoiser(denoise, joint)(jnp.zeros((1, 1)), jnp.full(1, 0.5)).x0
    >>> round(x0.item(), 4)  # the mean of the prior's 0, of x_t / alpha = 0 and of y = 1
    0.3333
    """

    measurement: Measurement
    inside: Guidance = field(default=Conditional())

    def __post_init__(self):
        if not isinstance(self.measurement, Measurement):
            return
        operator, std = self.measurement.operator, self.measurement.std
        checks.instance(Scale, "diffjax.inverse.Scale(1.0)", operator=operator)
        assert isinstance(operator, Scale)
        for name, value in (("factor", operator.factor), ("std", std)):
            known = isinstance(value, int | float | np.ndarray | np.generic | jax.Array)
            if not known or checks.traced(value):
                continue
            if name == "factor" and np.ndim(value):
                raise ValueError(f"factor {np.shape(value)}: needs one number for all values")
            if not (np.asarray(value) > 0).all():
                raise ValueError(f"{name}={value}: needs {name} > 0")

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        check_no_flow_map(query, type(self).__name__)
        sde, x, y = query.sde, query.x, self.measurement.values(query.x)
        assert isinstance(self.measurement.operator, Scale)
        factor = jnp.asarray(self.measurement.operator.factor, x.dtype)
        std = jnp.asarray(self.measurement.std, x.dtype)
        precision = jnp.broadcast_to((factor / std) ** 2, query.t.shape)
        logsnr = sde.logsnr(query.t)
        at = jnp.logaddexp(logsnr, jnp.log(precision))
        (log_alpha, _), t = sde.frame(at), sde.inverse(at)
        share = jnp.exp(jnp.log(precision) - at)  # of y in the mean
        alpha, sigma = sde.alpha(query.t), sde.sigma(query.t)
        own = jnp.exp(log_alpha - at) * alpha / sigma**2  # alpha' (1 - share) / alpha
        scaled = expand(own, x) * x + expand(jnp.exp(log_alpha) * share / factor, x) * y
        prediction, memory = self.inside(replace(query, x=scaled, t=t), weight, memory)
        # From x - alpha x0 without cancellation at small sigma, where x0 is close to x / alpha.
        away = expand(alpha / factor, x) * y - x
        ratio = expand(jnp.exp((logsnr - at) / 2), x)
        eps = ratio * prediction.eps - expand(share / sigma, x) * away
        return prediction._replace(output=prediction.x0, eps=eps), memory
