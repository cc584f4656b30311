"""First-order samplers, most of which share one kernel.

    x_s = alpha_s x0 + sigma_s (sqrt(1 - kappa) eps + sqrt(kappa) z)

With h = lambda_s - lambda_t, kappa = 0 is the probability-flow ODE, kappa = 1 - exp(-2h) the
posterior q(x_s | x_t, x0) at the predicted x0, and kappa = 1 replaces all of the noise. Between 0
and the posterior `eta` has three published meanings, which are three samplers here: `ddim`,
`ddim_variance` and `ddim_sde`. They agree at eta = 0 and 1; only for the last are two half steps
equal to one step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from diffjax.arrays import float64
from diffjax.checks import not_negative, within
from diffjax.samplers.program import Program, X, Z, sampler
from diffjax.samplers.table import Table
from diffjax.sde import SDE, Levels, levels


def _kernel(
    sde: SDE, times: np.ndarray, kappa: Callable[[float], float], eta: float = 0.0
) -> Table:
    """Write the kernel for kappa(h).

    eta: the noise sqrt(eta) g dw of the SDE that the kernel approaches for small h. In terms of x
    and x0 a step from alpha = 0 and the step to sigma = 0 are rows like any other.
    """
    at, p = levels(sde, times), Program()
    for t, s in pairwise(range(len(times))):
        k = kappa(at.lam[s] - at.lam[t])
        y = p.network(at.t[t])
        keep = at.sigma[s] * np.sqrt(1 - k) / at.sigma[t]
        noise = at.sigma[s] * np.sqrt(k)
        p.step(keep * X + (at.alpha[s] - keep * at.alpha[t]) * y + (noise * Z if noise else {}))
        if noise and eta:
            p.along(eta, at.lam[t], at.lam[s])
    return p.table()


@sampler(order=1)
def ddim(sde: SDE, times: np.ndarray, eta: float = 0.0) -> Table:
    """DDIM: kappa = eta^2 (1 - exp(-2h)), 0 <= eta <= 1 (arXiv:2010.02502, eq. 12 and 16).

    eta = 0 is the exponential Euler method for the probability-flow ODE, known as DPM-Solver-1 and
    as Euler's method in sigma; eta = 1 is `ancestral`.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.9)
    >>> print(ddim(flow, np.array([0.5, 0.25, 0.0])))
    2 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.5 x +0.5 y0
       1  t = 0.250000   u = +1 x   x = +1 y1
    """
    within(0, 1, eta=eta)
    return _kernel(sde, times, lambda h: -(eta**2) * np.expm1(-2 * h) if eta else 0.0, eta**2)


@sampler(order=1)
def ddim_variance(sde: SDE, times: np.ndarray, eta: float = 0.5) -> Table:
    """DDIM with eta a factor on the variance of the noise: kappa = eta (1 - exp(-2h)).

    In `ddim` eta is a factor on its standard deviation. 0 <= eta <= 1.

    >>> from diffjax import schedules, sde
    >>> print(ddim_variance(sde.Flow(schedules.Logit()), np.array([0.5, 0.25]), eta=0.5))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.372678 x +0.563661 y0 +0.166667 z0
    """
    within(0, 1, eta=eta)
    return _kernel(sde, times, lambda h: -eta * np.expm1(-2 * h) if eta else 0.0, eta)


@sampler(order=1)
def ddim_sde(sde: SDE, times: np.ndarray, eta: float = 1.0) -> Table:
    """The reverse SDE with noise sqrt(eta) g dw, solved exactly for a constant x0.

    kappa = 1 - exp(-2 eta h), eta >= 0, which may exceed 1 (arXiv:2309.05019, with tau^2 = eta).

    >>> from diffjax import schedules, sde
    >>> print(ddim_sde(sde.Flow(schedules.Logit()), np.array([0.5, 0.25]), eta=2.0))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.0555556 x +0.722222 y0 +0.248452 z0
    """
    not_negative(eta=eta)
    return _kernel(sde, times, lambda h: -np.expm1(-2 * eta * h) if eta else 0.0, eta)


@sampler(order=0)
def consistency(sde: SDE, times: np.ndarray) -> Table:
    """Multistep consistency sampling: x_s = alpha_s x0 + sigma_s z, kappa = 1.

    It is for a network that maps noise to data in one pass; with a denoiser the distribution of
    samples does not converge to that of the data (arXiv:2303.01469, Alg. 1).

    >>> from diffjax import schedules, sde
    >>> print(consistency(sde.Flow(schedules.Logit()), np.array([0.5, 0.25, 0.0])))
    2 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.75 y0 +0.25 z0
       1  t = 0.250000   u = +1 x   x = +1 y1
    """
    return _kernel(sde, times, lambda h: 1.0)


def _posterior(sde: SDE, times: np.ndarray, log_var: Callable[[Levels, int, int], tuple]) -> Table:
    """Write rows with the mean of q(x_s | x_t, x0) at the predicted x0 and a chosen variance.

    log_var: (at, t, s) -> the log-variance, and the `spread` of its standard deviation. With a =
    alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2 the mean is (a sigma_s^2 x + alpha_s v x0) /
    sigma_t^2.
    """
    at, p = levels(sde, times), Program()
    for t, s in pairwise(range(len(times))):
        y = p.network(at.t[t])
        if at.sigma[s] == 0:
            p.step(at.alpha[s] * y)
            continue
        share = -np.expm1(-2 * (at.lam[s] - at.lam[t]))  # v / sigma_t^2
        a = at.alpha[t] / at.alpha[s]
        keep = a * (at.sigma[s] / at.sigma[t]) ** 2
        log, spread = log_var(at, t, s)
        p.step(keep * X + at.alpha[s] * share * y + np.exp(log / 2) * Z, spread)
        p.along(1.0, at.lam[t], at.lam[s])
    return p.table()


def _small(at: Levels, t: int, s: int) -> float:
    """Return the log-variance of the posterior, sigma_s^2 (1 - exp(-2h))."""
    return np.log(at.sigma[s] ** 2 * -np.expm1(-2 * (at.lam[s] - at.lam[t])))


def _large(at: Levels, t: int, s: int) -> float:
    """Return the log-variance of x_t given x_s, sigma_t^2 (1 - exp(-2h)), which is beta in VP."""
    return np.log(at.sigma[t] ** 2 * -np.expm1(-2 * (at.lam[s] - at.lam[t])))


@sampler(order=1)
def ancestral(sde: SDE, times: np.ndarray) -> Table:
    """DDPM's ancestral sampling (arXiv:2006.11239, eq. 6, 7).

    x_s is drawn from the posterior q(x_s | x_t, x0) at the predicted x0.

    >>> from diffjax import schedules, sde
    >>> print(ancestral(sde.Flow(schedules.Logit()), np.array([0.5, 0.25])))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.166667 x +0.666667 y0 +0.235702 z0
    """
    return _posterior(sde, times, lambda *step: (_small(*step), 0.0))


@sampler(order=1, straight=False)
def ancestral_upper(sde: SDE, times: np.ndarray) -> Table:
    """Ancestral sampling with DDPM's larger variance, beta in VP (arXiv:2006.11239, sec. 3.2).

    The variance is exact for N(0, I) data.

    >>> from diffjax import schedules, sde
    >>> print(ancestral_upper(sde.Flow(schedules.Logit()), np.array([0.5, 0.25])))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.166667 x +0.666667 y0 +0.471405 z0
    """
    return _posterior(sde, times, lambda *step: (_large(*step), 0.0))


@sampler(order=1, straight=False)
def ancestral_learned(sde: SDE, times: np.ndarray) -> Table:
    """Ancestral sampling with a learned variance (arXiv:2102.09672, eq. 15).

    The network's second output interpolates between the variances of `ancestral` and
    `ancestral_upper`, in the logarithm.

    >>> from diffjax import schedules, sde
    >>> print(ancestral_learned(sde.Flow(schedules.Logit()), np.array([0.5, 0.25])))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.166667 x +0.666667 y0 +0.333333 z0   z exp(0.3466 r)
    """

    def log_var(at: Levels, t: int, s: int) -> tuple[float, float]:
        small, large = _small(at, t, s), _large(at, t, s)
        return (small + large) / 2, (large - small) / 4

    return _posterior(sde, times, log_var)


@sampler(order=1, straight=False)
def ancestral_optimal(sde: SDE, times: np.ndarray, data_var: float = 1.0) -> Table:
    """Ancestral sampling with the variance of least KL divergence (arXiv:2201.06503, thm. 1).

    data_var: variance of the data per dimension, >= 0. Marginals are exact on Gaussian data of that
    variance.

    >>> from diffjax import schedules, sde
    >>> print(ancestral_optimal(sde.Flow(schedules.Logit()), np.array([0.5, 0.25]), data_var=1.0))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.166667 x +0.666667 y0 +0.527046 z0
    """
    not_negative(data_var=data_var)

    def log_var(at: Levels, t: int, s: int) -> tuple[float, float]:
        given_x = data_var * at.sigma[t] ** 2 / (at.alpha[t] ** 2 * data_var + at.sigma[t] ** 2)
        pull = at.alpha[s] * -np.expm1(-2 * (at.lam[s] - at.lam[t]))
        return np.log(np.exp(_small(at, t, s)) + pull**2 * given_x), 0.0

    return _posterior(sde, times, log_var)


@sampler(order=1, straight=False)
def euler_maruyama(sde: SDE, times: np.ndarray, chi: float = 1.0) -> Table:
    """Euler-Maruyama in t on the reverse process with noise chi g dw (arXiv:2011.13456, eq. 6).

    chi >= 0: 1 is the reverse SDE, 0 the probability-flow ODE. The drift is (f + (1 + chi^2) g^2 /
    (2 sigma^2)) x - (1 + chi^2) g^2 alpha / (2 sigma^2) x0. Raises ValueError from alpha = 0, where
    it is infinite.

    >>> from diffjax import schedules, sde
    >>> vp = sde.VP(schedules.Exponential(rate=2.0))
    >>> print(euler_maruyama(vp, np.array([0.5, 0.25]), chi=0.0))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.854506 x +0.239879 y0
    """
    not_negative(chi=chi)
    at, p = levels(sde, times), Program()
    _finite("euler_maruyama", sde, at)
    inner = times[times > 0]
    f, _ = float64(sde.rates)(inner)
    g2 = float64(sde.diffusion)(inner) ** 2
    for t, s in pairwise(range(len(times))):
        y = p.network(at.t[t])
        if at.sigma[s] == 0:
            p.step(at.alpha[s] * y)
            continue
        step, pull = at.t[s] - at.t[t], (1 + chi**2) / 2 * g2[t] / at.sigma[t] ** 2
        noise = chi * np.sqrt(g2[t] * abs(step))
        p.step(
            (1 + step * (f[t] + pull)) * X
            - step * pull * at.alpha[t] * y
            + (noise * Z if noise else {})
        )
        p.along(chi**2, at.lam[t], at.lam[s])
    return p.table()


@sampler(order=1, straight=False)
def reverse_diffusion(sde: SDE, times: np.ndarray) -> Table:
    """The reverse diffusion sampler: the forward step x_t = a x_s + b z, discretised in reverse.

    x_s = (2 - a) x + b^2 score + b z (arXiv:2011.13456, app. E). Raises ValueError from alpha = 0.

    >>> from diffjax import schedules, sde
    >>> print(reverse_diffusion(sde.Flow(schedules.Logit()), np.array([0.5, 0.25])))
    1 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.444444 x +0.444444 y0 +0.471405 z0
    """
    at, p = levels(sde, times), Program()
    _finite("reverse_diffusion", sde, at)
    for t, s in pairwise(range(len(times))):
        y = p.network(at.t[t])
        if at.sigma[s] == 0:
            p.step(at.alpha[s] * y)
            continue
        a, share = at.alpha[t] / at.alpha[s], -np.expm1(-2 * (at.lam[s] - at.lam[t]))
        # b^2 score = -(b / sigma_t)^2 (x - alpha_t x0), and share = (b / sigma_t)^2
        p.step((2 - a - share) * X + share * at.alpha[t] * y + at.sigma[t] * np.sqrt(share) * Z)
        p.along(1.0, at.lam[t], at.lam[s])
    return p.table()


def _finite(name: str, sde: SDE, at: Levels) -> None:
    if not at.alpha[0] > 0:
        raise ValueError(
            f"{name} starts at t={at.t[0]:g} of {sde}, where alpha is 0 and the drift is infinite; "
            f"allowed: t_max < 1 in the sde, or the samplers ddim, ancestral"
        )
