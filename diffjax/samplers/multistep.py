"""Multistep methods, which use the network outputs of earlier steps in place of further passes.

Over a step the exact solution is a linear part plus an integral of the output alone
(arXiv:2206.00927, prop. 3.1; arXiv:2211.01095, prop. 4.1; with noise arXiv:2309.05019, prop. 4.1):

    x_s = (alpha_s / alpha_t) x_t - sigma_s int exp(lambda_s - lambda) eps d lambda
    x_s = (sigma_s / sigma_t) e^(-eta h) x_t + alpha_s int (1 + eta) e^(-(1 + eta) (lambda_s -
          lambda)) x0 d lambda + sigma_s sqrt(1 - exp(-2 eta h)) z

A method replaces the output by the polynomial through the latest outputs in some variable and
integrates that polynomial. There is no history at first, so the first steps are of lower order, and
so are the last ones with `lower_final`. The step to sigma = 0 returns x0, except for methods that
interpolate eps in rho or in phi, whose integrals stay finite there.

order is the largest number of outputs that a step uses, 1 to 4 (ValueError otherwise); lower_final
the number of last steps of order 1, before which the order falls by one per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from diffjax.arrays import float64
from diffjax.checks import not_negative, within
from diffjax.samplers.program import NOTHING, Combination, Program, X, Z, sampler
from diffjax.samplers.table import Read, Table, eps, x0
from diffjax.sde import SDE, Levels, levels

Variable = Callable[[SDE, np.ndarray], np.ndarray]
"""`(sde, lambda) -> v`, the variable in which outputs are interpolated."""
Rule = Callable[[np.ndarray, float], np.ndarray]
"""`(lambda of the outputs, newest first, lambda_s) -> weights`, relative to that of a constant."""
FIELDS = ("t", "alpha", "sigma", "lam")
# Quadrature in place of phi-functions, which cancel for small h and exist for lambda only.
NODES, QUADRATURE = np.polynomial.legendre.leggauss(40)


def by_logsnr(sde: SDE, lam: np.ndarray) -> np.ndarray:
    """Interpolate in lambda = log(alpha / sigma)."""
    return lam


def by_rho(sde: SDE, lam: np.ndarray) -> np.ndarray:
    """Interpolate in rho = sigma / alpha."""
    return np.exp(-lam)


def by_angle(sde: SDE, lam: np.ndarray) -> np.ndarray:
    """Interpolate in phi = atan(sigma / alpha)."""
    return np.arctan(np.exp(-lam))


def by_t(sde: SDE, lam: np.ndarray) -> np.ndarray:
    """Interpolate in t."""
    return np.array(float64(sde.inverse)(2 * lam))


def same(lam: np.ndarray) -> np.ndarray:
    """Return lambda itself: `by_logsnr` for a known process."""
    return lam


class Step:
    """The step from times[i] to times[i + 1]: its linear part, and the weights of outputs.

    read: whether outputs are x0 or eps. eta: noise of the SDE with sqrt(eta) g dw, for x0 only.
    to_data: whether a step to sigma = 0 may use several outputs, as with eps in rho. single: the
    step can use one output only, as any from alpha = 0. Raises ValueError for eps at alpha = 0.
    """

    def __init__(
        self, sde: SDE, at: Levels, i: int, read: Read, eta: float = 0.0, to_data: bool = False
    ):
        self.read = read
        self.start, self.end = at.lam[i], at.lam[i + 1]
        alpha, sigma, alpha_s, sigma_s = at.alpha[i], at.sigma[i], at.alpha[i + 1], at.sigma[i + 1]
        h = self.end - self.start
        # lambda is infinite at alpha = 0 and at sigma = 0, and an infinite step has no polynomial.
        self.single = not np.isfinite(self.start if to_data else h)
        if read is eps:
            # Solution in eps (arXiv:2206.00927, prop. 3.1): sigma_s exp(lambda_s - lambda).
            if not alpha > 0:
                raise ValueError(
                    f"times start at t={at.t[0]:g} of {sde}, where alpha is 0 and x0 does not "
                    f"follow from eps; allowed: t_max < 1, or the samplers ddim, ancestral, "
                    f"dpmpp_2m"
                )
            self.rate, self.scale = -1.0, -sigma_s
            self.linear = alpha_s / alpha
            # sigma_s (1 - exp(h)) is 0 times infinity at sigma_s = 0; this form has the limit.
            self.constant = sigma_s - alpha_s * sigma / alpha
            self.alpha, self.rho = alpha_s, sigma / alpha
            self.noise = 0.0
        else:
            # Solution in x0 with noise (arXiv:2309.05019, prop. 4.1): one rule for ODE and SDE.
            self.rate, self.scale = 1 + eta, alpha_s * (1 + eta)
            # `if eta` keeps 0 * inf = NaN out of steps with an infinite h.
            self.linear = sigma_s / sigma * (np.exp(-eta * h) if eta else 1.0)
            self.constant = -alpha_s * np.expm1(-self.rate * h)
            self.noise = sigma_s * np.sqrt(-np.expm1(-2 * eta * h)) if eta else 0.0

    def weights(
        self, nodes: np.ndarray, variable: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Return the weights of the outputs: the integrals of their Lagrange polynomials.

        nodes: values of the variable at the outputs, newest first. variable: its values at lambda.
        """
        if len(nodes) == 1:
            return np.array([self.constant])
        if np.isinf(self.end):
            # To sigma = 0 in rho: d lambda = -d rho / rho cancels the growth of the exponential.
            rho = self.rho / 2 * (1 + NODES)
            v, density = variable(-np.log(rho)), -self.alpha * self.rho / 2 * QUADRATURE
            return np.array([_lagrange(nodes, k, v) @ density for k in range(len(nodes))])
        half = (self.end - self.start) / 2
        lam = self.start + half * (1 + NODES)
        density = self.scale * half * QUADRATURE * np.exp(-self.rate * (self.end - lam))
        v = variable(lam)
        return np.array([_lagrange(nodes, k, v) @ density for k in range(len(nodes))])

    def advance(
        self, state: Combination, outputs: Sequence[Combination], weights: np.ndarray
    ) -> Combination:
        """Return the state at the end of the step, without its noise."""
        total = self.linear * state
        for weight, y in zip(weights, outputs, strict=True):
            total = total + weight * y
        return total


def _lagrange(nodes: np.ndarray, k: int, v: np.ndarray) -> np.ndarray:
    """Evaluate at v the polynomial that is 1 at nodes[k] and 0 at other nodes."""
    others = np.delete(nodes, k)
    return np.prod((v[None] - others[:, None]) / (nodes[k] - others[:, None]), axis=0)


def order_at(i: int, steps: int, order: int, lower_final: int) -> int:
    """Return the order of step i, which its i + 1 outputs and `lower_final` limit.

    >>> [order_at(i, steps=6, order=3, lower_final=1) for i in range(6)]
    [1, 2, 3, 3, 2, 1]
    """
    left = max(1, steps - i - lower_final + 1)
    return min(order, i + 1, left if lower_final else order)


def _multistep(
    sde: SDE,
    times: np.ndarray,
    order: int,
    lower_final: int,
    read: Read,
    variable: Variable = by_logsnr,
    rule: Rule | None = None,
    eta: float = 0.0,
    to_data: bool = False,
) -> Table:
    """Write one row per step with the outputs it may use; rule: weights in place of exact ones."""
    at, p, ys = levels(sde, times), Program(read), []
    steps, nodes = len(times) - 1, variable(sde, at.lam)
    for i in range(steps):
        ys.insert(0, p.network(at.t[i]))
        step = Step(sde, at, i, read, eta, to_data)
        used = history(at, i, step, order_at(i, steps, order, lower_final))
        if rule and len(used) > 1:
            # A rule sums to 1, so a constant output is integrated exactly: `Sampler.straight`.
            weights = step.constant * rule(at.lam[used], step.end)
        else:
            weights = step.weights(nodes[used], lambda lam: variable(sde, lam))
        mean = step.advance(X, ys[: len(used)], weights)
        p.step(mean + step.noise * Z if step.noise else mean)
        if step.noise:  # an exact increment of the SDE, so it may be refined along a Brownian path
            p.along(eta, step.start, step.end)
    return p.table()


def history(at: Levels, i: int, step: Step, count: int) -> np.ndarray:
    """Return the indices of the outputs that step i uses, newest first."""
    # An output at alpha = 0 serves its own step only: lambda is infinite there.
    used = np.arange(i, i - (1 if step.single else count), -1)
    return used if step.single else used[np.isfinite(at.lam[used])]


@sampler(order=lambda order: order)
def lms(sde: SDE, times: np.ndarray, order: int = 4, lower_final: int = 0) -> Table:
    """LMS: Adams-Bashforth for eps in rho = sigma / alpha with variable steps, of order 1 to 4.

    >>> from diffjax import schedules, sde
    >>> print(lms(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25]), order=2))
    2 rows, y = eps
       0  t = 0.750000   u = +1 x   x = +2 x -1 y0
       1  t = 0.500000   u = +1 x   x = +1.5 x -0.583333 y1 +0.0833333 y0
    """
    within(1, 4, order=order)
    return _multistep(sde, times, order, lower_final, eps, by_rho, to_data=True)


@sampler(order=lambda order: order)
def deis(sde: SDE, times: np.ndarray, order: int = 3, lower_final: int = 0) -> Table:
    """tAB-DEIS: eps is interpolated in t (arXiv:2204.13902, eq. 14), of order 1 to 4.

    >>> from diffjax import schedules, sde
    >>> print(deis(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25]), order=2))
    2 rows, y = eps
       0  t = 0.750000   u = +1 x   x = +2 x -1 y0
       1  t = 0.500000   u = +1 x   x = +1.5 x -0.716395 y1 +0.216395 y0
    """
    within(1, 4, order=order)
    return _multistep(sde, times, order, lower_final, eps, by_t)


@sampler(order=lambda order: order)
def ab_logsnr(sde: SDE, times: np.ndarray, order: int = 3, lower_final: int = 0) -> Table:
    """Exponential Adams-Bashforth: eps is interpolated in lambda, of order 1 to 4.

    >>> from diffjax import schedules, sde
    >>> print(ab_logsnr(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25]), order=2))
    2 rows, y = eps
       0  t = 0.750000   u = +1 x   x = +2 x -1 y0
       1  t = 0.500000   u = +1 x   x = +1.5 x -0.70512 y1 +0.20512 y0
    """
    within(1, 4, order=order)
    return _multistep(sde, times, order, lower_final, eps, by_logsnr)


@sampler(order=lambda order: order)
def ab_angle(sde: SDE, times: np.ndarray, order: int = 3, lower_final: int = 0) -> Table:
    """Adams-Bashforth with eps interpolated in phi = atan(sigma / alpha), of order 1 to 4.

    >>> from diffjax import schedules, sde
    >>> print(ab_angle(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25]), order=2))
    2 rows, y = eps
       0  t = 0.750000   u = +1 x   x = +2 x -1 y0
       1  t = 0.500000   u = +1 x   x = +1.5 x -0.725404 y1 +0.225404 y0
    """
    within(1, 4, order=order)
    return _multistep(sde, times, order, lower_final, eps, by_angle, to_data=True)


FIXED = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Adams-Bashforth coefficients of order 1 to 4 for equal steps, the newest output first."""


@sampler(order=lambda order: min(order, 2))
def ipndm(sde: SDE, times: np.ndarray, order: int = 4, lower_final: int = 0) -> Table:
    """iPNDM: Adams-Bashforth for eps with the coefficients of equal steps in rho.

    Its order is `order`, 1 to 4, on grids with equal steps in rho, and at most 2 on others
    (arXiv:2204.13902, app. B).

    >>> from diffjax import schedules, sde
    >>> print(ipndm(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25]), order=2))
    2 rows, y = eps
       0  t = 0.750000   u = +1 x   x = +2 x -1 y0
       1  t = 0.500000   u = +1 x   x = +1.5 x -0.75 y1 +0.25 y0
    """
    within(1, 4, order=order)
    equal = lambda lam, end: np.array(FIXED[len(lam) - 1])
    return _multistep(sde, times, order, lower_final, eps, rule=equal, to_data=True)


@sampler(order=2)
def dpmpp_2m(
    sde: SDE, times: np.ndarray, exact: bool = False, eta: float = 0.0, lower_final: int = 0
) -> Table:
    """DPM-Solver++(2M) (arXiv:2211.01095, Alg. 2).

    exact: integrate the line through both outputs exactly, known as "heun"; by default it is
    evaluated in the middle of the step, known as "midpoint". eta: noise, >= 0, which makes it
    SDE-DPM-Solver++(2M); 1 is the reverse SDE.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.9)
    >>> print(dpmpp_2m(flow, np.array([0.8, 0.5, 0.2, 0.0])))
    3 rows, y = x0
       0  t = 0.800000   u = +1 x   x = +0.625 x +0.375 y0
       1  t = 0.500000   u = +1 x   x = +0.4 x +0.9 y1 -0.3 y0
       2  t = 0.200000   u = +1 x   x = +1 y2
    """
    not_negative(eta=eta)
    return _multistep(
        sde, times, 2, lower_final, x0, rule=None if exact else _in_the_middle, eta=eta
    )


def _in_the_middle(lam: np.ndarray, end: float) -> np.ndarray:
    """Return the weights of two outputs for their line at the middle of the step in lambda."""
    share = (end - lam[0]) / (lam[0] - lam[1]) / 2
    return np.array([1 + share, -share])


@sampler(order=lambda eta: 2 if eta else 3)
def dpmpp_3m(sde: SDE, times: np.ndarray, eta: float = 0.0, lower_final: int = 0) -> Table:
    """DPM-Solver++(3M) of true third order: the parabola through three outputs (arXiv:2211.01095).

    Published code halves its second difference, which makes it second order. eta: as in `dpmpp_2m`;
    with noise the weak order is 2.

    >>> from diffjax import schedules, sde
    >>> print(dpmpp_3m(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25])))
    2 rows, y = x0
       0  t = 0.750000   u = +1 x   x = +0.666667 x +0.333333 y0
       1  t = 0.500000   u = +1 x   x = +0.5 x +0.79488 y1 -0.29488 y0
    """
    not_negative(eta=eta)
    return _multistep(sde, times, 3, lower_final, x0, eta=eta)


@sampler(order=2)
def pndm(sde: SDE, times: np.ndarray) -> Table:
    """PNDM: three pseudo Runge-Kutta steps, then `ipndm` of order 4 (arXiv:2202.09778, Alg. 2).

    The first three steps take four network passes each; their midpoints are those of t.

    >>> from diffjax import schedules, sde
    >>> pndm(sde.Flow(schedules.Logit()), np.array([0.75, 0.5, 0.25])).t.tolist()
    [0.75, 0.625, 0.625, 0.5, 0.5, 0.375, 0.375, 0.25]
    """
    middle = levels(sde, (times[1:] + times[:-1]) / 2)
    at, p, ys = levels(sde, times), Program(eps), []

    def move(t: tuple[Levels, int], s: tuple[Levels, int], y: Combination) -> Combination:
        # The paper's transfer part: a DDIM step with y in place of the network's output.
        pair = Levels(*(np.array([getattr(a, n)[k] for a, k in (t, s)]) for n in FIELDS))
        step = Step(sde, pair, 0, eps)
        return step.advance(X, [y], np.array([step.constant]))

    for i in range(len(times) - 1):
        t, mid, s = (at, i), (middle, i), (at, i + 1)
        ys.insert(0, p.network(at.t[i]))
        mean = ys[0]
        if i < 3 and at.sigma[i + 1] > 0:
            second = p.network(middle.t[i], move(t, mid, ys[0]))
            third = p.network(middle.t[i], move(t, mid, second))
            fourth = p.network(at.t[i + 1], move(t, s, third))
            mean = (ys[0] + 2 * second + 2 * third + fourth) / 6
        elif i >= 3 and at.sigma[i + 1] > 0:
            mean = NOTHING
            for weight, y in zip(FIXED[3], ys, strict=False):
                mean = mean + weight * y
        p.step(move(t, s, mean))
    return p.table()
