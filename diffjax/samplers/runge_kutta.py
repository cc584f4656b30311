"""One-step methods of higher order for the probability-flow ODE.

There are explicit Runge-Kutta methods on dX/dw = A X + B y, where a chart defines X = x / scale, w
and y, and the exponential methods of DPM-Solver, which integrate the linear part exactly. The step
to sigma = 0 is one row that returns x0, which costs one order there.

All raise ValueError where the first time has alpha = 0 and the method has no finite step from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from diffjax.arrays import float64
from diffjax.samplers.program import NOTHING, Combination, Program, X, sampler
from diffjax.samplers.table import Read, Table, eps, x0
from diffjax.sde import SDE, Levels, levels

Chart = Callable[[SDE, Levels], tuple[np.ndarray, ...]]
"""`(sde, levels) -> (w, scale, A, B)`: the ODE in the variable w."""
EULER = ((),)
MIDPOINT = ((), (1 / 2,))
HEUN = ((), (1.0,))
CLASSIC = ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0))
"""Tableaux of explicit methods: row j is a_j1 .. a_j,j-1 of stage j, which is at their sum c_j."""


def in_rho(sde: SDE, at: Levels) -> tuple[np.ndarray, ...]:
    """Return d(x / alpha) / d rho = eps, rho = sigma / alpha (arXiv:2206.00364, eq. 4)."""
    return at.sigma / at.alpha, at.alpha, 0 * at.t, 1 + 0 * at.t


def in_logsnr(sde: SDE, at: Levels) -> tuple[np.ndarray, ...]:
    """Return the chart d(x / alpha) / d lambda = -rho eps."""
    return at.lam, at.alpha, 0 * at.t, -at.sigma / at.alpha


def in_t(sde: SDE, at: Levels) -> tuple[np.ndarray, ...]:
    """Return the chart dx / dt = (sigma' / sigma) x + (alpha' - alpha sigma' / sigma) x0."""
    dalpha, dsigma = float64(sde.slopes)(at.t)
    a = dsigma / at.sigma
    return at.t, 1 + 0 * at.t, a, dalpha - at.alpha * a


def in_angle(sde: SDE, at: Levels) -> tuple[np.ndarray, ...]:
    """Return the chart dX / d phi = cot(phi) X - x0 / sin(phi), whose right side is v.

    tan(phi) = sigma / alpha and X = x / sqrt(alpha^2 + sigma^2) (arXiv:2202.00512, app. D).
    """
    r = np.hypot(at.alpha, at.sigma)
    return np.arctan2(at.sigma, at.alpha), r, at.alpha / at.sigma, -r / at.sigma


def _runge_kutta(
    sde: SDE,
    times: np.ndarray,
    chart: Chart,
    between: Callable[[SDE, np.ndarray], np.ndarray],
    stages: Sequence[Sequence[float]],
    weights: Sequence[float],
    read: Read,
) -> Table:
    """Write an explicit Runge-Kutta method: one row per stage.

    between: times at values of w. stages, weights: the tableau a_jk and b_j. read: the view y.
    """
    at, p = levels(sde, times), Program(read)
    inner = levels(sde, times[times > 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        w, scale_at, _, slope = chart(sde, inner)
    if not (np.isfinite(w).all() and np.isfinite(slope).all()):
        raise ValueError(
            f"times start at t={times[0]:g} of {sde}, where alpha is 0 and this method has no "
            f"finite step; allowed: t_max < 1, or the samplers ddim, ancestral, heun_t"
        )
    nodes, steps = np.array([sum(row) for row in stages]), np.diff(w)
    here = between(sde, w[:-1, None] + steps[:, None] * nodes)  # (steps, stages)
    # The ends exactly, not by a round trip through w, so that rows begin at the times of the grid.
    here[:, nodes == 0], here[:, nodes == 1] = inner.t[:-1, None], inner.t[1:, None]
    charts = chart(sde, levels(sde, here.ravel()))
    scale, a, b = (part.reshape(here.shape) for part in charts[1:])
    for i in range(len(times) - 1):
        if at.sigma[i + 1] == 0:
            p.step(_to_data(at, i, i + 1, p.network(at.t[i]), read))
            break
        start, slopes = X / scale_at[i], []
        for j, row in enumerate(stages):
            state = start + _sum(zip(row, slopes, strict=True), steps[i])
            y = p.network(here[i, j], scale[i, j] * state)
            slopes.append(a[i, j] * state + b[i, j] * y)
        p.step(scale_at[i + 1] * (start + _sum(zip(weights, slopes, strict=True), steps[i])))
    return p.table()


def _sum(terms: object, factor: float) -> Combination:
    total = NOTHING
    for weight, slope in terms:  # type: ignore[attr-defined]
        if weight:
            total = total + (factor * weight) * slope
    return total


def _to_data(at: Levels, t: int, s: int, y: Combination, read: Read) -> Combination:
    """Return the step to sigma = 0: alpha_s times the view x0."""
    if read is x0:
        return at.alpha[s] * y
    return (at.alpha[s] / at.alpha[t]) * (X - at.sigma[t] * y)


def by_lambda(sde: SDE, lam: np.ndarray) -> np.ndarray:
    """Return the times at log(alpha / sigma) = lam."""
    return np.array(float64(sde.inverse)(2 * lam))


def by_rho(sde: SDE, rho: np.ndarray) -> np.ndarray:
    """Return the times at sigma / alpha = rho."""
    return by_lambda(sde, -np.log(rho))


def _by_t(sde: SDE, t: np.ndarray) -> np.ndarray:
    return np.array(t)


def _by_angle(sde: SDE, phi: np.ndarray) -> np.ndarray:
    return by_lambda(sde, -np.log(np.tan(phi)))


@sampler(order=1, straight=False)
def euler_t(sde: SDE, times: np.ndarray) -> Table:
    """Euler's method in t, which is `ddim` in the frame `Flow` (arXiv:2209.03003).

    >>> from diffjax import schedules, sde
    >>> print(euler_t(sde.VP(schedules.Cosine(s=0.0)), np.array([0.5, 0.25])))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.607301 x +0.55536 y0
    """
    return _runge_kutta(sde, times, in_t, _by_t, EULER, (1.0,), x0)


@sampler(order=1, straight=False)
def euler_logsnr(sde: SDE, times: np.ndarray) -> Table:
    """Euler's method in lambda = log(alpha / sigma); Euler's method in sigma / alpha is `ddim`.

    >>> from diffjax import schedules, sde
    >>> print(euler_logsnr(sde.Flow(schedules.Logit()), np.array([0.5, 0.25])))
    1 rows, y = eps
       0  t = 0.500000   u = +1 x   x = +1.5 x -0.823959 y0
    """
    return _runge_kutta(sde, times, in_logsnr, by_lambda, EULER, (1.0,), eps)


@sampler(order=1, straight=False)
def euler_angle(sde: SDE, times: np.ndarray) -> Table:
    """Euler's method in phi = atan(sigma / alpha), on v (arXiv:2410.11081).

    It is exact on N(0, I) data.

    >>> from diffjax import schedules, sde
    >>> print(euler_angle(sde.VP(schedules.Cosine(s=0.0)), np.array([0.5, 0.25])))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.607301 x +0.55536 y0
    """
    return _runge_kutta(sde, times, in_angle, _by_angle, EULER, (1.0,), x0)


@sampler(order=2, passes=2)
def heun(sde: SDE, times: np.ndarray) -> Table:
    """Heun's method in rho = sigma / alpha (arXiv:2206.00364, Alg. 1).

    >>> from diffjax import schedules, sde
    >>> print(heun(sde.VE(schedules.Edm(sigma_max=4.0)), np.array([0.5, 0.25])))  # sigma: 2, 1
    2 rows, y = eps
       0  t = 0.500000   u = +1 x   x = +1 x
       1  t = 0.250000   u = +1 x -1 y0   x = +1 x -0.5 y1 -0.5 y0
    """
    return _runge_kutta(sde, times, in_rho, by_rho, HEUN, (0.5, 0.5), eps)


@sampler(order=2, passes=2, straight=False)
def heun_t(sde: SDE, times: np.ndarray) -> Table:
    """Heun's method in t.

    >>> from diffjax import schedules, sde
    >>> heun_t(sde.Flow(schedules.Logit()), np.array([0.5, 0.25, 0.0])).t.tolist()
    [0.5, 0.25, 0.25]
    """
    return _runge_kutta(sde, times, in_t, _by_t, HEUN, (0.5, 0.5), x0)


@sampler(order=2, passes=2)
def midpoint(sde: SDE, times: np.ndarray) -> Table:
    """The midpoint method in rho.

    >>> from diffjax import schedules, sde
    >>> midpoint(sde.VE(schedules.Edm()), np.array([0.5, 0.25, 0.0])).t.round(4).tolist()
    [0.5, 0.375, 0.25]
    """
    return _runge_kutta(sde, times, in_rho, by_rho, MIDPOINT, (0.0, 1.0), eps)


@sampler(order=2, passes=2, straight=False)
def midpoint_t(sde: SDE, times: np.ndarray) -> Table:
    """The midpoint method in t.

    >>> from diffjax import schedules, sde
    >>> midpoint_t(sde.Flow(schedules.Logit()), np.array([0.5, 0.25, 0.0])).t.tolist()
    [0.5, 0.375, 0.25]
    """
    return _runge_kutta(sde, times, in_t, _by_t, MIDPOINT, (0.0, 1.0), x0)


@sampler(order=4, passes=4)
def rk4(sde: SDE, times: np.ndarray) -> Table:
    """The classic fourth-order method in rho.

    >>> from diffjax import schedules, sde
    >>> rk4(sde.VE(schedules.Edm()), np.array([0.5, 0.25, 0.0])).t.round(4).tolist()
    [0.5, 0.375, 0.375, 0.25, 0.25]
    """
    return _runge_kutta(sde, times, in_rho, by_rho, CLASSIC, (1 / 6, 1 / 3, 1 / 3, 1 / 6), eps)


@sampler(order=4, passes=4, straight=False)
def rk4_t(sde: SDE, times: np.ndarray) -> Table:
    """The classic fourth-order method in t.

    >>> from diffjax import schedules, sde
    >>> rk4_t(sde.Flow(schedules.Logit()), np.array([0.5, 0.25, 0.0])).t.tolist()
    [0.5, 0.375, 0.375, 0.25, 0.25]
    """
    return _runge_kutta(sde, times, in_t, _by_t, CLASSIC, (1 / 6, 1 / 3, 1 / 3, 1 / 6), x0)


def _exponential(
    sde: SDE, times: np.ndarray, nodes: Sequence[float], read: Read, constant: bool = False
) -> Table:
    """Write a singlestep method of DPM-Solver.

    nodes: the r of stages at lambda_t + r h, after the one at t. Each stage, and the step itself,
    is `_advance` with the first output and the slope to the latest output. constant: the step uses
    the latest output alone.
    """
    at, p = levels(sde, times), Program(read)
    inner = at.lam[times > 0]
    if not np.isfinite(inner[0]) and (read is eps or len(inner) > 1):
        raise ValueError(
            f"times start at t={times[0]:g} of {sde}, where alpha is 0 and this method has no "
            f"finite step; allowed: t_max < 1, or the samplers ddim, ancestral, heun_t"
        )
    stages = [levels(sde, by_lambda(sde, inner[:-1] + r * np.diff(inner))) for r in nodes]
    for t, s in pairwise(range(len(times))):
        y = p.network(at.t[t])
        if at.sigma[s] == 0:
            p.step(_to_data(at, t, s, y, read))
            continue
        latest, seen = None, 0.0
        for r, stage in zip(nodes, stages, strict=True):
            slope = NOTHING if latest is None else (latest - y) / seen
            latest = p.network(stage.t[t], _advance((at, t), (stage, t), y, slope, r, read))
            seen = r
        if latest is not None and constant:
            p.step(_advance((at, t), (at, s), latest, NOTHING, 1.0, read))
            continue
        slope = NOTHING if latest is None else (latest - y) / seen
        p.step(_advance((at, t), (at, s), y, slope, 1.0, read))
    return p.table()


def _advance(
    start: tuple[Levels, int],
    end: tuple[Levels, int],
    y: Combination,
    slope: Combination,
    r: float,
    read: Read,
) -> Combination:
    """Return the exact step of length r h for an output y + slope (lambda - lambda_t) / h.

    For x0: (sigma_s / sigma_t) x + alpha_s int exp(-(lambda_s - lambda)) x0 d lambda; for eps:
    (alpha_s / alpha_t) x - sigma_s int exp(lambda_s - lambda) eps d lambda.
    """
    (at, t), (to, s) = start, end
    k = to.lam[s] - at.lam[t]  # r h
    if read is x0:
        psi1 = -np.expm1(-k)
        psi2 = 1 - psi1 / k
        return (to.sigma[s] / at.sigma[t]) * X + to.alpha[s] * (psi1 * y + (r * psi2) * slope)
    phi1 = np.expm1(k)
    phi2 = phi1 / k - 1
    return (to.alpha[s] / at.alpha[t]) * X - to.sigma[s] * (phi1 * y + (r * phi2) * slope)


@sampler(order=1)
def dpm_solver_1(sde: SDE, times: np.ndarray) -> Table:
    """DPM-Solver-1 (arXiv:2206.00927, eq. 3.7), which is `ddim` written in eps.

    >>> from diffjax import schedules, sde
    >>> print(dpm_solver_1(sde.Flow(schedules.Logit()), np.array([0.5, 0.25])))
    1 rows, y = eps
       0  t = 0.500000   u = +1 x   x = +1.5 x -0.5 y0
    """
    return _exponential(sde, times, (), eps)


@sampler(order=2, passes=2)
def dpm_solver_2(sde: SDE, times: np.ndarray) -> Table:
    """DPM-Solver-2 with r = 1/2 (arXiv:2206.00927, Alg. 1).

    The whole step uses the eps of its middle in lambda.

    >>> from diffjax import schedules, sde
    >>> dpm_solver_2(sde.VE(schedules.Edm()), np.array([0.64, 0.16, 0.0])).t.round(4).tolist()
    [0.64, 0.32, 0.16]
    """
    return _exponential(sde, times, (1 / 2,), eps, constant=True)


@sampler(order=3, passes=3)
def dpm_solver_3(sde: SDE, times: np.ndarray) -> Table:
    """DPM-Solver-3 with r = 1/3, 2/3 (arXiv:2206.00927, Alg. 2).

    >>> from diffjax import schedules, sde
    >>> dpm_solver_3(sde.VE(schedules.Edm()), np.array([0.64, 0.08, 0.0])).t.round(4).tolist()
    [0.64, 0.32, 0.16, 0.08]
    """
    return _exponential(sde, times, (1 / 3, 2 / 3), eps)


@sampler(order=2, passes=2)
def dpmpp_2s(sde: SDE, times: np.ndarray) -> Table:
    """DPM-Solver++(2S) with r = 1/2, in x0 (arXiv:2211.01095, Alg. 1).

    >>> from diffjax import schedules, sde
    >>> dpmpp_2s(sde.VE(schedules.Edm()), np.array([0.64, 0.16, 0.0])).t.round(4).tolist()
    [0.64, 0.32, 0.16]
    """
    return _exponential(sde, times, (1 / 2,), x0, constant=True)
