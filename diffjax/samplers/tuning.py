"""Optimization of grids for a sampler and a data variance, and of step counts for an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from diffjax.samplers.table import Table, moments
from diffjax.sde import SDE, levels


class Optimized(NamedTuple):
    """An optimized grid `times`, and the error of the sampler before and after."""

    times: np.ndarray
    before: float
    after: float


Planner = Callable[[SDE, np.ndarray], Table]


def error(plan: Planner, sde: SDE, times: np.ndarray, var: np.ndarray) -> float:
    """Return the Wasserstein-2 distance of the samples to their true distribution.

    It is exact, for data N(0, diag(var)) and a start from the true marginal at times[0], without a
    network, and in units of the standard deviation of the true distribution.
    """
    at = levels(sde, times[[0, -1]])
    start, exact = at.alpha[:, None] ** 2 * var + at.sigma[:, None] ** 2
    _, variances = moments(plan(sde, times), sde, 0.0, var, (0.0, start))
    return float(np.sqrt(np.sum((np.sqrt(variances) - np.sqrt(exact)) ** 2) / np.sum(exact)))


def optimize(
    plan: Planner,
    sde: SDE,
    times: np.ndarray,
    var: np.ndarray,
    most: int = 100,
) -> Optimized:
    """Minimise `error` over the grid by BFGS on the logarithms of its steps, starting at `times`.

    plan: a sampler with its settings. times: at least three above 0; the first and the last
    positive one stay fixed. var: (K,), the variances of the data along its principal directions,
    > 0. most: the largest number of iterations. Raises ValueError for other times and variances.

    >>> from diffjax import grids, samplers, schedules, sde
    >>> vp = sde.VP(schedules.Linear(), t_min=0.01)
    >>> best = optimize(samplers.ddim, vp, grids.uniform(vp, 3), np.array([0.1, 1.0]), most=2)
    >>> best.after < best.before
    True
    """
    times, var = np.asarray(times, np.float64), np.asarray(var, np.float64)
    if not (var > 0).all():
        raise ValueError(f"var={var}: needs positive variances")
    positive = times[times > 0]
    after_last = times[len(positive) :]
    if len(positive) < 3:
        raise ValueError(f"times={times}: needs at least three above 0, as the ends are fixed")

    def grid(steps: np.ndarray) -> np.ndarray:
        share = np.exp(steps - steps.max())
        fallen = np.cumsum(share)[:-1] / share.sum() * (positive[0] - positive[-1])
        return np.concatenate([positive[:1], positive[0] - fallen, positive[-1:], after_last])

    def objective(steps: np.ndarray) -> float:
        moved = grid(steps)
        if not (np.diff(moved) < 0).all():
            return 1e3
        return np.log(error(plan, sde, moved, var) + 1e-300)

    from scipy import optimize as solve  # takes half a second to import

    first = np.log(-np.diff(positive))
    best = solve.minimize(objective, first, method="BFGS", options={"maxiter": most})
    before, after = error(plan, sde, times, var), error(plan, sde, grid(best.x), var)
    return (
        Optimized(grid(best.x), before, after)
        if after < before
        else Optimized(times, before, before)
    )


class Refinement(NamedTuple):
    """A number of steps, and an estimate of the sampler's error with them."""

    steps: int
    error: float


def refine(
    sample: Callable[[int], np.ndarray],
    order: float | int,
    wanted: float | int,
    first: int = 5,
    most: int = 640,
) -> Iterator[Refinement]:
    """Double the number of steps from `first` until the error is at most `wanted`, or past `most`.

    sample: a function from a number of steps to the same samples, with the noise of one Brownian
    path each. The error is the root mean square of the difference to the exact result, estimated by
    Richardson extrapolation as |x_n - x_2n| / (1 - 2^-order). order: that of the samples
    themselves, 1 with noise.

    >>> sample = lambda steps: np.array([1 + 1 / steps])  # an error of first order
    >>> [(r.steps, round(r.error, 3)) for r in refine(sample, order=1, wanted=0.06)]
    [(5, 0.2), (10, 0.1), (20, 0.05)]
    """
    steps, samples = first, sample(first)
    while steps <= most:
        finer = sample(2 * steps)
        estimate = float(np.sqrt(np.mean((finer - samples) ** 2))) / (1 - 2.0**-order)
        yield Refinement(steps, estimate)
        if estimate <= wanted:
            return
        steps, samples = 2 * steps, finer
