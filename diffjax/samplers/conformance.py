"""Measurements of the properties that a sampler declares.

The tests apply them to all samplers in the catalogue, `judge` to any sampler. They need neither a
network nor Monte Carlo. Orders are measured on a mixture in one dimension, against the exact flow
and with exact history, or by the exact recursion of mean and variance on Gaussian data.
Distributions are measured on data whose answer is known. The mixture is written in the coordinates
x / alpha and rho = sigma / alpha, which are the same in all frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy import integrate

from diffjax import checks
from diffjax.arrays import float64
from diffjax.samplers.program import Sampler
from diffjax.samplers.table import (
    NOISES,
    OUTPUTS,
    READ,
    WRITE,
    Table,
    Unrolled,
    eps,
    moments,
    unroll,
    x0,
)
from diffjax.schedules import Linear
from diffjax.sde import SDE, VE, VP, levels

Plan = Callable[[SDE, np.ndarray], Table]
MEAN, VAR = 0.7, 0.3
"""Mean and variance of the Gaussian data."""
WEIGHT, CENTRE, SPREAD = np.array([0.6, 0.4]), np.array([-1.0, 0.8]), np.array([0.1, 0.2])
"""Weights, means and variances of the mixture."""
VP_LINEAR = VP(Linear(), t_min=0.02)
TIMES = np.array([0.95, 0.7, 0.52, 0.3, 0.17, 0.06, 0.02])
"""Times without symmetry, since equal steps would hide a wrong weight."""
DOWN = np.append(TIMES, 0.0)
START = np.linspace(-1.5, 1.5, 7)
"""Initial x / alpha of the measurements of order, at LAM[0]."""
LAM = -1.0, 1.5
"""log(alpha / sigma) at the start and at the end of the measurements of order."""
NEAR, ROUNDING = 0.2, 3e-6
"""Tolerance of a measured order, and of an error that is declared to be 0."""


def posterior_mean(x: np.ndarray, rho: float) -> np.ndarray:
    """Return E[x0 | x] of the mixture at x = x0 + rho eps."""
    var = SPREAD + rho**2
    away = x[..., None] - CENTRE
    logp = np.log(WEIGHT) - 0.5 * (away**2 / var + np.log(var))
    share = np.exp(logp - logp.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    return (share * (CENTRE + SPREAD * away / var)).sum(-1)


def ode(x: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Return x / alpha along the exact flow at increasing `lam`, the first of which is that of x.

    The ODE is d (x / alpha) / d lambda = -rho eps = x0 - x / alpha.
    """
    slope = lambda l, x: posterior_mean(x, np.exp(-l)) - x
    states = [x]
    for low, high in pairwise(lam):
        done = integrate.solve_ivp(slope, (low, high), states[-1], "DOP853", rtol=1e-13, atol=1e-14)
        states.append(done.y[:, -1])
    return np.array(states)


def mixture_output(table: Table, sde: SDE) -> Callable[[int, np.ndarray], np.ndarray]:
    """Return the function (i, u) -> y of a table's rows for the mixture."""
    at = levels(sde, table.t)

    def output(i: int, u: np.ndarray) -> np.ndarray:
        mean = posterior_mean(u / at.alpha[i], at.sigma[i] / at.alpha[i])
        return mean if table.read is x0 else (u - at.alpha[i] * mean) / at.sigma[i]

    return output


def simulate(
    table: Table,
    output: Callable[[int, np.ndarray], np.ndarray],
    x: np.ndarray,
    zs: Any = None,
    exact: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> np.ndarray:
    """Run a table row by row in NumPy: the definition of its meaning.

    output: (i, u) -> y. zs: the noise of each row; 0 by default. exact: (y, x) of the first rows,
    which replace the results of those rows.
    """
    still = np.zeros_like(x)
    ys, olds = [still] * (OUTPUTS + 1), [still] * (NOISES + 1)
    for i in map(int, np.flatnonzero(table.active)):
        z = still if zs is None else zs[i]
        u = np.tensordot(table.input[i], [x, *ys[:-1], z, *olds[:-1]], 1)
        y = output(i, u)
        if i < len(exact):
            y, x = exact[i]
        else:
            registers = [x, y, *ys[:-1], z, *olds[:-1]]
            x = np.tensordot(table.update[i], registers, 1)
        ys[table.keep[i]], olds[table.keep_noise[i]] = y, z
    return x


def at_lambda(sde: SDE, lam: np.ndarray | float) -> np.ndarray:
    """Return the times at log(alpha / sigma) = lam."""
    return np.array(float64(sde.inverse)(2 * np.asarray(lam)))


def uneven(n: int) -> np.ndarray:
    """Return n steps to t_min > 0 that vary smoothly and are equal in none of t, lambda, rho."""
    share = np.linspace(0, 1, n + 1)
    share += 0.15 * np.sin(np.pi * share)
    return at_lambda(VP_LINEAR, LAM[0] + (LAM[1] - LAM[0]) * share)


def rough(n: int) -> np.ndarray:
    """Return n steps with two sizes in turn, on which weights for equal steps lose an order."""
    steps = np.resize([2.0, 1.0], n)
    share = np.append(0.0, steps.cumsum() / steps.sum())
    return at_lambda(VP_LINEAR, LAM[0] + (LAM[1] - LAM[0]) * share)


def marginal(sde: SDE, t: float) -> tuple[float, float]:
    """Return the mean and variance of x_t for N(MEAN, VAR) data."""
    at = levels(sde, np.array([t]))
    return float(at.alpha[0] * MEAN), float(at.alpha[0] ** 2 * VAR + at.sigma[0] ** 2)


def memory(table: Table) -> int:
    """Return how many rows back the oldest output lies that any row uses."""
    held, oldest = {}, 0
    for i in range(len(table)):
        used = {n for n, c in zip(READ, table.input[i], strict=True) if c}
        used |= {n for n, c in zip(WRITE, table.update[i], strict=True) if c}
        oldest = max([oldest, *(i - held[n] for n in used & set(held))])
        held[f"y[{table.keep[i]}]"] = i
    return oldest


def history(table: Table, times: np.ndarray) -> tuple[list[tuple[Any, Any]], np.ndarray]:
    """Return exact (y, x) of the first rows on the mixture, and the exact x / alpha at the end.

    There are as many rows as a multistep method remembers, none for a method with several rows per
    step. Where a row evaluates the network at another point than the state, that point is a
    prediction of the state at the row's time, which the row then corrects, as in UniPC: the row
    leaves the state at its own time, not at that of the next row.
    """
    at, here = levels(VP_LINEAR, times), levels(VP_LINEAR, table.t)
    rows = memory(table) if len(table) == len(times) - 1 else 0
    late = not table.begins.any()
    hat = ode(START / at.alpha[0], np.append(at.lam[: rows + 1], at.lam[-1]))
    outputs = []
    for i in range(rows):
        mean = posterior_mean(hat[i], np.exp(-at.lam[i]))
        y = mean if table.read is x0 else (hat[i] - mean) * here.alpha[i] / here.sigma[i]
        j = i if late else i + 1
        outputs.append((y, at.alpha[j] * hat[j]))
    return outputs, hat[-1]


def order_on_mixture(
    plan: Plan, counts: tuple[int, int], grid: Callable[[int], np.ndarray] = rough
) -> float:
    """Measure the order of an ODE method: the slope of the error of x / alpha at the end.

    counts: two numbers of steps, large enough for the leading term and with errors above rounding.
    """
    errors = []
    for times in map(grid, counts):
        table = plan(VP_LINEAR, times)
        exact, end = history(table, times)
        x = simulate(table, mixture_output(table, VP_LINEAR), START, exact=exact)
        errors.append(np.abs(x / levels(VP_LINEAR, times[-1:]).alpha - end).max())
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


def law_errors(plan: Plan, n: int) -> tuple[float, float]:
    """Return the errors on Gaussian data in n steps: of the variance, relative, and of the mean.

    The error of the mean is in standard deviations.
    """
    times = uneven(n)
    table = plan(VP_LINEAR, times)
    mean, var = moments(table, VP_LINEAR, MEAN, VAR, marginal(VP_LINEAR, table.t[0]))
    exact = marginal(VP_LINEAR, times[-1])
    return abs(var / exact[1] - 1), abs(mean - exact[0]) / np.sqrt(exact[1])


def order_of_law(plan: Plan, counts: tuple[int, int] = (128, 256)) -> tuple[float, float | None]:
    """Measure the weak order of a stochastic sampler, of the variance and of the mean.

    The order of the mean is None where the mean is exact.
    """
    errors = np.array([law_errors(plan, n) for n in counts])
    var, mean = (float(-np.polyfit(np.log(counts), np.log(e), 1)[0]) for e in errors.T + 1e-300)
    return var, mean if errors[:, 1].max() > 1e-9 else None


def point_error(plan: Plan, sde: SDE, times: np.ndarray) -> float:
    """Return the larger error of mean and standard deviation for data that are the point MEAN.

    Errors are in standard deviations of x_t at the end.
    """
    at = levels(sde, times[[0, -1]])
    table = plan(sde, times)
    start, exact = ((a * MEAN, s**2) for a, s in zip(at.alpha, at.sigma, strict=True))
    if not table.noisy.any():  # any start: the flow is a line through the point
        start = start[0] + 0.7 * at.sigma[0], 0.3 * start[1]
        exact = exact[0] + 0.7 * at.sigma[1], 0.3 * exact[1]
    mean, var = moments(table, sde, MEAN, 0.0, start)
    return float(max(abs(mean - exact[0]) / at.sigma[1], abs(np.sqrt(var / exact[1]) - 1)))


def end_law(plan: Plan, sde: SDE, rows: int = 1024, passes: int = 1) -> tuple[float, float]:
    """Return the mean and variance of samples on Gaussian data, in about `rows` rows to t = 0."""
    times = np.append(np.linspace(sde.t_max, sde.t_min, rows // passes + 1), 0.0)
    mean, var = moments(plan(sde, times), sde, MEAN, VAR)
    return float(mean), float(var)


def as_x0(table: Table, sde: SDE) -> Unrolled:
    """Return the unrolled maps with every output eps written as (u - alpha x0) / sigma."""
    maps, at, rows = unroll(table), levels(sde, table.t), len(table)
    if table.read is not eps:
        return maps
    basis = np.eye(1 + 2 * rows)
    outputs = basis.copy()
    for i in range(rows):
        u = maps.inputs[i] @ outputs
        outputs[1 + i] = (u - at.alpha[i] * basis[1 + i]) / at.sigma[i]
    return Unrolled(maps.inputs @ outputs, maps.result @ outputs)


def difference(one: Table, other: Table, sde: SDE) -> float:
    """Return the largest difference between two tables of equally many rows, as linear functions.

    They are functions of x_T, all x0 and all noises. The difference is relative to the largest
    coefficient, and 0 up to rounding where both are the same method.

    >>> from diffjax import samplers
    >>> from diffjax.schedules import Logit
    >>> from diffjax.sde import Flow
    >>> flow, times = Flow(Logit()), np.array([0.75, 0.5, 0.25])
    >>> round(difference(samplers.ddim(flow, times), samplers.dpm_solver_1(flow, times), flow), 9)
    0.0
    """
    pairs = zip(as_x0(one, sde), as_x0(other, sde), strict=True)
    return float(max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs))


class Finding(NamedTuple):
    """A property that was measured, the result, and whether it is as declared."""

    asked: str
    measured: str
    holds: bool


class Judgement(tuple[Finding, ...]):
    """All findings on a sampler, printed one per line."""

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self)

    def __repr__(self) -> str:
        lines = (f"{'ok  ' if f.holds else 'FAIL'}  {f.asked}: {f.measured}" for f in self)
        return "\n".join(lines)


def judge(method: Sampler, **settings: Any) -> Judgement:
    """Measure whether a sampler has the properties that it declares.

    They are the order, exactness on data at a single point, a last row without noise, and the mean
    and variance of samples. method: a sampler decorated with `@sampler(order=p)`; it need not be in
    the catalogue. Samplers with fixed weights (`ipndm`, `pndm`) have their order on equal steps
    only, and fail. Raises the errors of the sampler itself.

    >>> from diffjax import samplers
    >>> judge(samplers.ddim).holds
    True
    """
    checks.instance(Sampler, "sampler(order=1)(function)", method=method)
    plan: Plan = lambda sde, times: method(sde, times, **settings)
    table = plan(VP_LINEAR, DOWN)
    points = [point_error(plan, sde, t) for sde in _FRAMES for t in (TIMES, TIMES[[0, 3]])]
    straight = max(points) < ROUNDING
    last = table.t[-1] == DOWN[-2] and not table.noisy[-1]
    order = method.order(**settings)
    mean, var = end_law(plan, VP(Linear(), t_min=0.01), passes=method.passes)
    reached = abs(mean - MEAN) < 0.03 * VAR**0.5 and abs(var / VAR - 1) < 0.06
    return Judgement(
        (
            _order(plan, order),
            Finding(
                f"data at a single point, declared {'exact' if method.straight else 'not exact'}",
                f"error up to {max(points):.1e} standard deviations in 6 steps and in 1",
                straight == method.straight,
            ),
            Finding(
                "last row",
                f"at t = {table.t[-1]:g}, {'with' if table.noisy[-1] else 'without'} noise",
                bool(last),
            ),
            Finding(
                f"samples of N({MEAN}, {VAR}) in 1024 passes",
                f"mean {mean:.4f}, variance {var:.4f}",
                bool(reached) or order == 0,  # such a distribution does not converge
            ),
        )
    )


_FRAMES = (VP_LINEAR, VE(Linear(), t_min=0.02))


def _order(plan: Plan, declared: int) -> Finding:
    if plan(VP_LINEAR, TIMES).noisy.any():
        orders = [o for o in order_of_law(plan) if o is not None]
        shown, what = " and ".join(f"{o:.2f}" for o in orders), "weak order on Gaussian data"
    else:
        few = 32 if not memory(plan(VP_LINEAR, TIMES)) else 128 if declared == 4 else 64
        orders = [order_on_mixture(plan, (few, 2 * few))]
        shown, what = f"{orders[0]:.2f}", "order on a mixture, with steps of two sizes"
    near = all(abs(o - declared) < NEAR for o in orders)
    return Finding(f"{what}, declared {declared}", f"measured {shown}", near)
