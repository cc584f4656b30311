"""Every sampler on every process: exact laws, convergence orders, and what is the same method."""

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture, gaussian
from diffjax.arrays import float64
from diffjax.grids import logsnr_uniform, uniform
from diffjax.samplers import (
    SAMPLERS,
    Row,
    ancestral,
    ddim,
    heun,
    moments,
    sample,
    table,
    unroll,
)
from diffjax.schedules import SCHEDULES, Cosine, Linear
from diffjax.sde import SDES, VE, VP, levels

MEAN, VAR = 0.7, 0.3
UNBOUNDED = {("ve", "cosine")}
"""Frames that need t_max < 1 over a schedule."""
REFUSED = {("heun", "vp", "cosine")}
"""Samplers that need t_max < 1 in a process: alpha is 0 at t = 1."""


class Case(NamedTuple):
    """A sampler with settings on a process."""

    sampler: str
    settings: dict
    frame: str
    schedule: str

    def sde(self, **ends):
        if (self.frame, self.schedule) in UNBOUNDED or self.named in REFUSED:
            ends.setdefault("t_max", 0.98)
        return SDES[self.frame](SCHEDULES[self.schedule](), **ends)

    @property
    def named(self):
        return self.sampler, self.frame, self.schedule

    @property
    def order(self):
        return SAMPLERS[self.sampler].order

    def plan(self, sde, times):
        return SAMPLERS[self.sampler](sde, times, **self.settings)

    def __str__(self):
        return "-".join([*self.named, *(f"{k}{v}" for k, v in self.settings.items())])


METHODS = [(name, {}) for name in SAMPLERS] + [("ddim", {"eta": 0.5}), ("ddim", {"eta": 1.0})]
CASES = [
    Case(name, settings, frame, schedule)
    for (name, settings), frame, schedule in itertools.product(METHODS, SDES, SCHEDULES)
]
PROCESSES = [
    SDES[f](SCHEDULES[s](), t_max=0.98 if (f, s) in UNBOUNDED else 1.0)
    for f, s in itertools.product(SDES, SCHEDULES)
]
every = pytest.mark.parametrize("case", CASES, ids=str)
processes = pytest.mark.parametrize(
    "sde", PROCESSES, ids=lambda sde: f"{type(sde).__name__}-{type(sde.schedule).__name__}"
)


def marginal(sde, t):
    """Mean and variance of x_t for N(MEAN, VAR) data."""
    at = levels(sde, np.array([t]))
    return float(at.alpha[0] * MEAN), float(at.alpha[0] ** 2 * VAR + at.sigma[0] ** 2)


def flow(sde, t, s, law):
    """The law after the probability-flow ODE from t to s, started from `law` (MATH 3)."""
    (mean_t, var_t), (mean_s, var_s) = marginal(sde, t), marginal(sde, s)
    return mean_s + np.sqrt(var_s / var_t) * (law[0] - mean_t), var_s / var_t * law[1]


def deterministic(rows):
    return not rows.noisy.any()


def errors(case, sde, n):
    """Bias of mean and variance after n rows, in units of the exact law, at t_min > 0."""
    per_step = len(case.plan(sde, uniform(sde, 11)[:-1])) // 10
    times = uniform(sde, n // per_step + 1)[:-1]
    rows = case.plan(sde, times)
    start = marginal(sde, times[0])
    exact = marginal(sde, times[-1])
    if deterministic(rows):  # an ODE transports any start: mean and variance are tested apart
        start = start[0] + 1.0, 0.5 * start[1]
        exact = flow(sde, times[0], times[-1], start)
    mean, var = moments(rows, sde, MEAN, VAR, start)
    return abs(mean - exact[0]) / np.sqrt(exact[1]), abs(var / exact[1] - 1)


@every
def test_law_on_gaussian_data_converges_at_the_declared_order(case):
    """The sampler would have a bias that more rows do not take away, or a lower order.

    Exact laws by recursion, no Monte Carlo; from the exact start law to t_min > 0.
    """
    sde = case.sde(t_min=0.02)
    counts = 200, 400, 800
    mean, var = np.array([errors(case, sde, n) for n in counts]).T
    slope = lambda e: -np.polyfit(np.log(counts), np.log(e), 1)[0]
    print(case, slope(var), slope(mean) if mean.max() > 1e-9 else None, var, mean, errors(case, sde, 50), errors(case, sde, 1000))
    assert slope(var) == pytest.approx(case.order, abs=0.15)
    if mean.max() > 1e-9:  # stochastic ones keep the mean exactly
        assert slope(mean) == pytest.approx(case.order, abs=0.15)
