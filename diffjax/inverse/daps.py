"""DAPS: x0 is drawn from its Gaussian posterior in each row, and noise is added afresh."""

from __future__ import annotations

from dataclasses import dataclass

from diffjax import checks
from diffjax.arrays import pytree
from diffjax.guidance.base import Around
from diffjax.guidance.query import Answer, Memory, Query, Weight, with_x0
from diffjax.inverse.covariances import Drawable
from diffjax.inverse.posterior import Posterior


@pytree
@dataclass(frozen=True)
class Drawn(Around):
    """A draw of x0 from N(x0', C') in place of its mean x0', for the table `consistency`.

    `inside` gives the mean x0' and the covariance C' = C - C A^T (A C A^T + std^2 I)^-1 A C. The
    draw is the mean of the problem with a perturbed prior and measurement: with x = x0_hat +
    C^(1/2) z it is x + C A^T (A C A^T + std^2 I)^-1 (y + std n - A x). With `consistency`, which
    adds fresh noise to x0, this is DAPS (arXiv:2407.01521, Alg. 1) without its Langevin dynamics.

    With the covariance `Tweedie` it is exact on Gaussian data at any number of steps. With `Flat`,
    50 steps on a cosine schedule, prior mean 0.7, y = 1.5 and std 0.5 have the bias (0.02, 0.99)
    for variance 1 and (0.10, 1.01) for 0.25, in the units of `covariances.py`. The paper combines
    the flat covariance with the end of the ODE from x_t in place of x0_hat, and then has (0.17,
    1.10) and (0.46, 1.34).

    Raises ValueError for a covariance with Gamma other than C.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from diffjax import analytic, grids, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.99)
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow)
    >>> from diffjax.inverse import Mask, Measurement
    >>> known = Measurement(jnp.array([[1.2, 0.0]]), Mask(jnp.array([[True, False]])))
    >>> x, keys = samplers.initial(flow, jax.random.split(jax.random.key(0), 3), (2,))
    >>> from diffjax.inverse import Posterior, Prior
    >>> table = samplers.consistency(flow, grids.uniform(flow, 2))
    >>> drawn = Drawn(Posterior(known, Prior()))
    >>> x = samplers.sample(denoise, table, x, keys, guidance=drawn)
    >>> x[:, 0].round(3).tolist()  # std = 0: the value that is known
    [1.2..., 1.2..., 1.2...]
    """

    inside: Posterior

    def __post_init__(self):
        if isinstance(self.inside, Posterior):
            hint = "diffjax.inverse.Tweedie(), Prior() or Flat()"
            checks.instance(Drawable, hint, covariance=self.inside.covariance)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        prediction, problem, memory = self.inside.pose(query, weight, memory)
        covariance = self.inside.covariance
        assert isinstance(covariance, Drawable)
        away = covariance.root(problem, query.normal(0))
        noise = problem.std * query.normal(1, problem.residual.shape[1:])
        seen = problem.seen(problem.residual + noise - problem.forward(away))
        return with_x0(query, prediction, prediction.x0 + away + covariance(seen)), memory
