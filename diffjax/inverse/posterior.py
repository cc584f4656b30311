"""The posterior denoiser E[x0 | x_t, y] as a guidance around any other guidance."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import numpy as np

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.guidance.base import Conditional, Guidance
from diffjax.guidance.query import Answer, Memory, Query, Weight, with_x0
from diffjax.inverse.covariances import Covariance, Tweedie
from diffjax.inverse.measurement import MeasuredGuidance, Measurement
from diffjax.inverse.problem import Problem, posed
from diffjax.prediction import Prediction
from diffjax.sde import ends


@pytree
@dataclass(frozen=True)
class Posterior(MeasuredGuidance):
    """The prediction of x0 given x_t and a measurement y = A x0 + std n.

        x0' = x0_hat + Gamma A^T (A C A^T + std^2 I)^-1 (y - A x0_hat)

    eps moves along, so that x_t = alpha x0 + sigma eps holds. A nonlinear A is linearised at
    x0_hat, and its Jacobian stands for A beside y - A(x0_hat). Every sampler runs on the result.
    measurement: one for each sample, or one for all. covariance: the pair (Gamma, C), an
    entry of `COVARIANCES`. inside: the guidance that predicts x0_hat; the weight of a row is that
    of `inside`. The NFE are those of `inside`; a row takes `covariance.products` vector-Jacobian
    products as well, each about as expensive as two passes.

    Raises ValueError for std = 0 with a covariance that divides by it, for a nonlinear operator
    with a covariance that needs a linear one, for a flow map, and for a covariance that needs the
    Jacobian with a process of alpha = 0 at t_max, where it is 0 / 0.

    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, schedules, sde
    >>> from diffjax.inverse import Measurement, Scale
    >>> vp = sde.VP(schedules.Cosine(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(vp)
    >>> posterior = Posterior(Measurement(jnp.ones((1, 2)), Scale(1.0), 0.5))
    >>> query = Query(denoise, jnp.ones((3, 2)), jnp.full(3, 0.5))
    >>> posterior(query, jnp.ones(()), posterior.init(query.x))[0].x0.shape
    (3, 2)
    """

    measurement: Measurement
    covariance: Covariance = field(default=Tweedie())
    inside: Guidance = field(default=Conditional())

    def __post_init__(self):
        if not isinstance(self.measurement, Measurement):
            return  # JAX rebuilds pytrees from stand-ins
        checks.instance(Covariance, "diffjax.inverse.Tweedie()", covariance=self.covariance)
        checks.instance(Guidance, "diffjax.guidance.Guided()", inside=self.inside)
        check_operator(self.measurement, self.covariance)

    def pose(
        self, query: Query, weight: Weight, memory: Memory
    ) -> tuple[Prediction, Problem, Memory]:
        """Return the prediction of `inside` and the linear problem at it."""
        check_process(query, self.covariance)
        needs = self.covariance.jacobian
        return posed(self.measurement, self.inside, query, weight, memory, needs)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        prediction, problem, memory = self.pose(query, weight, memory)
        return with_x0(query, prediction, prediction.x0 + self.covariance(problem)), memory


def check_operator(measurement: Measurement, covariance: Covariance) -> None:
    """Raise ValueError where the covariance does not suit the operator, or a std of 0."""
    name = type(covariance).__name__
    if covariance.linear and not measurement.operator.linear:
        operator = type(measurement.operator).__name__
        raise ValueError(f"covariance={name}: needs a linear operator, and {operator} is not")
    std = measurement.std
    if checks.traced(std) or not isinstance(std, int | float | np.ndarray | np.generic | jax.Array):
        return
    if not covariance.zero_noise and not (np.asarray(std) > 0).all():
        raise ValueError(
            f"std=0 with covariance={name}: needs std > 0, or a covariance that allows an exact "
            f"measurement: tweedie, unit, prior, flat, infinite"
        )


def check_process(query: Query, covariance: Covariance) -> None:
    """Raise ValueError for a flow map, and where the Jacobian would be divided by alpha = 0."""
    check_no_flow_map(query, "Posterior")
    if query.sde.schedule.init() or not covariance.jacobian:
        return  # a learned schedule has finite ends, which may be traced
    if not ends(query.sde).alpha[1] > 0:
        raise ValueError(
            f"covariance={type(covariance).__name__} with {query.sde}: alpha is 0 at t_max; "
            f"allowed: t_max < 1, or the covariances prior, flat, infinite"
        )


def check_no_flow_map(query: Query, name: str) -> None:
    """Raise ValueError for a query of a flow map, whose prediction is not E[x0 | x_t]."""
    if query.to is not None:
        raise ValueError(
            f"{name} with a table for flow maps: needs E[x0 | x_t]; allowed: the other samplers"
        )
