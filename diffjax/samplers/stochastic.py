"""Stochastic samplers: churn, restarts and exponential methods for the reverse SDE.

Rows of one step share their noise: a stage and its step, or a predictor and its corrector, see the
same Brownian path.
"""

from __future__ import annotations

import numpy as np

from diffjax.checks import at_least, not_negative, within
from diffjax.samplers.multistep import Step, history, order_at, same
from diffjax.samplers.program import Combination, Program, X, Z, sampler
from diffjax.samplers.runge_kutta import by_lambda, by_rho
from diffjax.samplers.table import Table, eps, x0
from diffjax.sde import SDE, Levels, ends, levels


@sampler(order=2, passes=2)
def churn(
    sde: SDE,
    times: np.ndarray,
    s_churn: float = 30.0,
    s_min: float = 0.01,
    s_max: float = 1.0,
    s_noise: float = 1.0,
) -> Table:
    """EDM's stochastic sampler: noise up to rho (1 + gamma), then Heun (arXiv:2206.00364, Alg. 2).

    gamma = min(s_churn / steps, sqrt(2) - 1) where s_min <= rho <= s_max, rho = sigma / alpha, and
    where rho (1 + gamma) does not exceed the level at t_max; elsewhere it is 0. s_noise multiplies
    the noise (1.007 in the paper). The defaults are those of CIFAR-10. With an exact flow the
    marginals are exact.

    >>> from diffjax import schedules, sde
    >>> table = churn(sde.VE(schedules.Edm(sigma_max=1.0)), np.array([0.5, 0.25, 0.0]))
    >>> table.t.round(3).tolist(), table.noisy.tolist()  # noise is added up to 0.5 sqrt(2)
    ([0.707, 0.25, 0.354], [True, False, True])
    """
    not_negative(s_churn=s_churn, s_min=s_min, s_noise=s_noise)
    at_least(0, s_max=s_max)
    at, p = _finite("churn", sde, times), Program(eps)
    rho = at.sigma / at.alpha
    gamma = min(s_churn / (len(times) - 1), np.sqrt(2) - 1)
    # Above the level at t_max the network is not trained: no churn where it would lead there.
    most = float(np.exp(-ends(sde).lam[1])) * (1 + 1e-9)
    stirred = (s_min <= rho) & (rho <= s_max) & (rho * (1 + gamma) <= most) & (rho > 0)
    higher = np.where(stirred, rho * (1 + gamma), rho)
    up = levels(sde, np.where(stirred, by_rho(sde, np.where(rho > 0, higher, 1.0)), times))
    for i in range(len(times) - 1):
        noise = s_noise * np.sqrt(higher[i] ** 2 - rho[i] ** 2)
        start = X / at.alpha[i] + (noise * Z if noise else {})
        first = p.network(up.t[i], up.alpha[i] * start)
        if noise:
            # The update follows the second row, whose fresh noise is another: use the first's.
            start = X / at.alpha[i] + noise * p.noise()
        p.step(_heun(p, at, i + 1, start, first, rho[i + 1] - higher[i]))
    return p.table()


def _heun(
    p: Program, at: Levels, s: int, start: Combination, first: Combination, h: float
) -> Combination:
    """Return the end of a Heun step of length h in rho from x / alpha = start, with eps `first`."""
    if at.sigma[s] == 0:
        return at.alpha[s] * (start + h * first)
    second = p.network(at.t[s], at.alpha[s] * (start + h * first))
    return at.alpha[s] * (start + (h / 2) * (first + second))


@sampler(order=2, passes=2)
def restart(
    sde: SDE,
    times: np.ndarray,
    low: float = 0.06,
    high: float = 0.3,
    repeats: int = 2,
    steps: int = 0,
) -> Table:
    """Restart sampling (arXiv:2306.14878, Alg. 1): at rho = low, return to rho = high and repeat.

    Heun's method runs on `times`. From the last of them with rho >= low, noise is added up to
    `high`, and `steps` Heun steps on the rho^(1/7) grid lead back, `repeats` times. steps = 0 means
    as many as `times` has there, and at least three. The result is plain Heun where that time is
    the first, or beyond `high`. Raises ValueError unless 0 < low < high, for a high beyond the
    noise at t_max, and for an inversion.

    >>> from diffjax import schedules, sde
    >>> ve = sde.VE(schedules.Edm(sigma_max=1.0))
    >>> restart(ve, np.array([1.0, 0.1, 0.0]), repeats=1, steps=1).t.round(3).tolist()
    [1.0, 0.1, 0.3, 0.1, 0.1]
    """
    if not 0 < low < high:
        raise ValueError(f"low={low}: needs 0 < low < high={high}")
    not_negative(repeats=repeats, steps=steps)
    if repeats and times[1] > times[0]:
        raise ValueError("restart adds noise, so it cannot be inverted")
    at, p = _finite("restart", sde, times), Program(eps)
    rho = at.sigma / at.alpha
    if not high <= np.exp(-ends(sde).lam[1]) * (1 + 1e-9):
        raise ValueError(f"high={high}: exceeds the noise level at t_max={sde.t_max} of {sde}")
    # Legs: down to the last level above `low`, `repeats` times from `high` to there, then the rest.
    above = np.flatnonzero(rho >= low)
    j = int(above[-1]) if len(above) else 0
    legs = [times]
    if repeats and j > 0 and rho[j] < high:
        inside = int(((low <= rho) & (rho <= high)).sum())
        share = np.linspace(0, 1, 1 + (steps or max(3, inside)))
        root = high ** (1 / 7) + share * (rho[j] ** (1 / 7) - high ** (1 / 7))
        down = by_rho(sde, root**7)
        down[-1] = times[j]
        legs = [times[: j + 1], *[down] * repeats, times[j:]]
        legs = [leg for leg in legs if len(leg) > 1]
    for k, leg in enumerate(legs):
        here = levels(sde, leg)
        rho = here.sigma / here.alpha
        for i in range(len(leg) - 1):
            start = X / here.alpha[i]
            first = p.network(leg[i], X)
            end = _heun(p, here, i + 1, start, first, rho[i + 1] - rho[i])
            if i == len(leg) - 2 and k + 1 < len(legs) and legs[k + 1][0] > leg[-1]:
                top = levels(sde, legs[k + 1][:1])
                alpha, target = top.alpha[0], top.sigma[0] / top.alpha[0]
                end = (alpha / here.alpha[i + 1]) * end
                end = end + (alpha * np.sqrt(target**2 - rho[i + 1] ** 2)) * Z
            p.step(end)
    return p.table()


def _singlestep(sde: SDE, times: np.ndarray, r: float, eta: float, middle: bool) -> Table:
    """Write a method of two stages, at lambda_t and lambda_t + r h, for noise sqrt(eta) g dw."""
    within(0, 1, "(]", r=r)
    not_negative(eta=eta)
    at, p = _finite("dpmpp_sde" if middle else "seeds_2", sde, times), Program(x0)
    inner = at.lam[times > 0]
    stage = levels(sde, by_lambda(sde, inner[:-1] + r * np.diff(inner)))
    for i in range(len(times) - 1):
        first = p.network(at.t[i])
        if at.sigma[i + 1] == 0:
            p.step(at.alpha[i + 1] * first)
            break
        h = at.lam[i + 1] - at.lam[i]
        to, decay = r * h, lambda k: np.exp(-eta * k)
        spread = lambda k: np.sqrt(-np.expm1(-2 * eta * k))
        z1, between = p.noise(), at.lam[i] + to
        p.along(eta, at.lam[i], between)
        here = (stage.sigma[i] / at.sigma[i] * decay(to)) * X
        here = here + (-stage.alpha[i] * np.expm1(-(1 + eta) * to)) * first
        second = p.network(stage.t[i], here + (stage.sigma[i] * spread(to)) * z1 if eta else here)
        # Integrals of a constant and of a slope against exp(-(1 + eta) (lambda_s - lambda)).
        psi1 = -np.expm1(-(1 + eta) * h)
        psi2 = psi1 / 2 if middle else 1 - psi1 / ((1 + eta) * h)
        end = (at.sigma[i + 1] / at.sigma[i] * decay(h)) * X
        end = end + at.alpha[i + 1] * (psi1 * first + (psi2 / r) * (second - first))
        if eta:  # the noise of the stage decayed to s, and that of the remaining (1 - r) h
            end = end + at.sigma[i + 1] * (decay(h - to) * spread(to) * z1 + spread(h - to) * Z)
            p.along(eta, between, at.lam[i + 1])
        p.step(end)
    return p.table()


@sampler(order=2, passes=2)
def dpmpp_sde(sde: SDE, times: np.ndarray, r: float = 0.5, eta: float = 1.0) -> Table:
    """DPM-Solver++(2S) for the reverse SDE with noise sqrt(eta) g dw (arXiv:2211.01095).

    The second stage is at lambda_t + r h, 0 < r <= 1. The line through both outputs is evaluated in
    the middle of the step, and that value is held over the step. eta >= 0.

    >>> from diffjax import schedules, sde
    >>> table = dpmpp_sde(sde.VE(schedules.Edm()), np.array([0.64, 0.16, 0.0]))
    >>> table.t.round(4).tolist(), table.noisy.tolist()
    ([0.64, 0.32, 0.16], [True, True, False])
    """
    return _singlestep(sde, times, r, eta, middle=True)


@sampler(order=2, passes=2)
def seeds_2(sde: SDE, times: np.ndarray, r: float = 0.5, eta: float = 1.0) -> Table:
    """SEEDS-2: the line through both outputs is integrated exactly (arXiv:2305.14267, Alg. 2).

    r, eta: as in `dpmpp_sde`.

    >>> from diffjax import schedules, sde
    >>> table = seeds_2(sde.VE(schedules.Edm()), np.array([0.64, 0.16, 0.0]))
    >>> table.t.round(4).tolist(), table.noisy.tolist()
    ([0.64, 0.32, 0.16], [True, True, False])
    """
    return _singlestep(sde, times, r, eta, middle=False)


def _sa_order(tau: float, predictor: int, corrector: int) -> int:
    """Return the order: a corrector adds at most one, and limits it to its number of outputs."""
    order = min(predictor + 1, corrector) if corrector else predictor
    return min(2, order) if tau else order


@sampler(order=_sa_order)
def sa_solver(
    sde: SDE,
    times: np.ndarray,
    tau: float = 1.0,
    low: float = 0.05,
    high: float = 1.0,
    predictor: int = 2,
    corrector: int = 2,
) -> Table:
    """SA-Solver: stochastic Adams methods with predictor and corrector (arXiv:2309.05019, Alg. 1).

    tau: >= 0; steps from low <= rho <= high have the noise tau g dw, others none. predictor,
    corrector: numbers of outputs, 1 to 4; corrector = 0 leaves the corrector out. Both share the
    noise of the step. Raises ValueError for settings out of range.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> sa_solver(flow, np.array([0.75, 0.5, 0.25, 0.0])).noisy.tolist()  # rho = 3 is above `high`
    [False, True, False]
    """
    not_negative(tau=tau)
    if not 0 <= low <= high:
        raise ValueError(f"low={low}: needs 0 <= low <= high={high}")
    within(1, 4, predictor=predictor)
    within(0, 4, corrector=corrector)
    at, p = levels(sde, times), Program(x0)
    rho = np.exp(-at.lam)
    eta = np.where((low <= rho) & (rho <= high), tau**2, 0.0)
    steps, state, ys = len(times) - 1, X, [p.network(at.t[0])]
    for i in range(steps):
        step = Step(sde, at, i, x0, float(eta[i]))
        used = history(at, i, step, order_at(i, steps, predictor, 0))
        lam, known = at.lam[used], ys[: len(used)]
        weights = step.weights(lam, same)
        if i == steps - 1:
            mean = step.advance(state, known, weights)
            p.step(mean + step.noise * Z if step.noise else mean)
            if step.noise:
                p.along(eta[i], step.start, step.end)
            break
        # As in `unipc`, a row leaves the corrected state; its noise z enters the next row's input,
        # so predictor and corrector share it.
        p.step(state)
        if step.noise:
            p.along(eta[i], step.start, step.end)
        noise = step.noise * p.noise() if step.noise else Combination()
        state = step.advance(X, known, weights) + noise
        new = p.network(at.t[i + 1], state)
        if corrector and not step.single:
            inside = lam[: corrector - 1]
            both = step.weights(np.append(inside, step.end), same)
            state = step.advance(X, [*known[: len(inside)], new], both) + noise
        ys.insert(0, new)
    return p.table()


def _finite(name: str, sde: SDE, times: np.ndarray) -> Levels:
    at = levels(sde, times)
    if not at.alpha[0] > 0:
        raise ValueError(
            f"{name} starts at t={times[0]:g} of {sde}, where alpha is 0 and this method has no "
            f"finite step; allowed: t_max < 1, or the samplers ddim, ancestral, dpmpp_2m"
        )
    return at
