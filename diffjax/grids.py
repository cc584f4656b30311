"""Time grids: functions `(sde, steps) -> times`, the decreasing float64 times of a sampler.

A grid has `steps + 1` times: `steps` from t_max to t_min, then 0, which stands for the data
(sigma = 0). Any array of decreasing times is a grid too. One that ends above 0 leaves the noise of
its last level in the samples; an increasing one, which begins above 0, inverts an ODE.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from diffjax import checks
from diffjax.arrays import catalogue, float64
from diffjax.checks import within
from diffjax.sde import SDE, ends

Grid = Callable[..., np.ndarray]
"""(sde, steps, settings) -> times."""


def grid(function: Grid) -> Grid:
    """Decorate a grid so that it raises ValueError unless `sde` is a process and steps >= 1.

    >>> @grid
    ... def squared(sde, steps):
    ...     return np.linspace(1, 0, steps + 1) ** 2
    >>> from diffjax import schedules, sde
    >>> squared(sde.VP(schedules.Linear()), 4).tolist()
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    @functools.wraps(function)
    def checked(sde: SDE, steps: int, *settings: Any, **named: Any) -> np.ndarray:
        checks.instance(SDE, "diffjax.sde.VP(diffjax.schedules.Linear())", sde=sde)
        checks.whole(1, steps=steps)
        return function(sde, steps, *settings, **named)

    return checked


@grid
def uniform(sde: SDE, steps: int) -> np.ndarray:
    """Take equal steps in t; with t_min = 1 / steps the discrete times of DDPM.

    Source: arXiv:2006.11239.

    >>> from diffjax import schedules, sde
    >>> uniform(sde.VP(schedules.Linear(), t_min=0.1), 4).round(6).tolist()
    [1.0, 0.7, 0.4, 0.1, 0.0]
    """
    return _between(sde, _shares(steps))


@grid
def quadratic(sde: SDE, steps: int) -> np.ndarray:
    """Take equal steps in sqrt(t), more of them near the data (arXiv:2010.02502, app. D.2).

    >>> from diffjax import schedules, sde
    >>> quadratic(sde.VP(schedules.Linear(), t_min=0.04), 3).round(6).tolist()
    [1.0, 0.36, 0.04, 0.0]
    """
    low, high = np.sqrt(sde.t_min), np.sqrt(sde.t_max)
    return _to_data(sde, (high - (high - low) * _shares(steps)) ** 2)


@grid
def cosine(sde: SDE, steps: int) -> np.ndarray:
    """Take t = t_max - (t_max - t_min) sin^2(pi / 2 share), with more steps near both ends.

    share runs from 0 to 1 in equal steps.

    >>> from diffjax import schedules, sde
    >>> cosine(sde.VP(schedules.Linear(), t_min=0.1), 3).round(6).tolist()
    [1.0, 0.55, 0.1, 0.0]
    """
    return _between(sde, np.sin(np.pi / 2 * _shares(steps)) ** 2)


@grid
def beta(sde: SDE, steps: int, alpha: float = 0.6, beta: float = 0.6) -> np.ndarray:
    """Take equal steps in the quantiles of a beta distribution of t (arXiv:2407.12173).

    alpha, beta: its parameters, > 0; both below 1 put more steps near both ends.

    >>> from diffjax import schedules, sde
    >>> beta(sde.VP(schedules.Linear(), t_min=0.1), 5).round(3).tolist()
    [1.0, 0.842, 0.55, 0.258, 0.1, 0.0]
    """
    within(0, np.inf, "()", alpha=alpha, beta=beta)
    return _between(sde, 1 - special.betaincinv(alpha, beta, 1 - _shares(steps)))


@grid
def logsnr_uniform(sde: SDE, steps: int) -> np.ndarray:
    """Take equal steps in log-SNR, that is in log(sigma / alpha) (arXiv:2206.00927, sec. 3.4).

    Raises ValueError for a process whose log-SNR is infinite at t_max.

    >>> from diffjax import schedules, sde
    >>> ve = sde.VE(schedules.Edm(sigma_max=100.0), t_min=1e-4)
    >>> (100 * logsnr_uniform(ve, 5)).round(3).tolist()  # sigma
    [100.0, 10.0, 1.0, 0.1, 0.01, 0.0]
    """
    lam_max, lam_min = _finite("logsnr_uniform", sde)
    return _at_lambda(sde, lam_min + (lam_max - lam_min) * _shares(steps))


@grid
def exponential(
    sde: SDE, steps: int, sigma_min: float = 0.0, sigma_max: float = np.inf
) -> np.ndarray:
    """Take equal steps in log(sigma / alpha), from sigma_max down to sigma_min.

    sigma_min, sigma_max: values of sigma / alpha; by default those at t_min and t_max. Raises
    ValueError for values beyond these, and where sigma / alpha is infinite at t_max.

    >>> from diffjax import schedules, sde
    >>> ve = sde.VE(schedules.Edm(sigma_max=100.0), t_min=1e-4)
    >>> (100 * exponential(ve, 4, sigma_max=10.0)).round(3).tolist()  # sigma
    [10.0, 1.0, 0.1, 0.01, 0.0]
    """
    low, high = _range("exponential", sde, sigma_min, sigma_max)
    return _at_lambda(sde, -np.log(high) + np.log(high / low) * _shares(steps))


@grid
def karras(
    sde: SDE, steps: int, rho: float = 7.0, sigma_min: float = 0.0, sigma_max: float = np.inf
) -> np.ndarray:
    """Take equal steps in (sigma / alpha)^(1 / rho), rho > 0 (arXiv:2206.00364, eq. 5).

    sigma_min and sigma_max are those of `exponential`.

    >>> from diffjax import schedules, sde
    >>> ve = sde.VE(schedules.Edm(sigma_max=80.0), t_min=0.002 / 80)
    >>> (80 * karras(ve, 4)).round(3).tolist()  # sigma
    [80.0, 9.723, 0.47, 0.002, 0.0]
    """
    within(0, np.inf, "()", rho=rho)
    low, high = (s ** (1 / rho) for s in _range("karras", sde, sigma_min, sigma_max))
    return _at_lambda(sde, -rho * np.log(high - (high - low) * _shares(steps)))


@grid
def explicit(sde: SDE, steps: int, times: tuple[float, ...] = ()) -> np.ndarray:
    """Take the given times.

    times: `steps` of them, to which 0 is appended, or `steps + 1`, the last of which ends the grid.
    Raises ValueError for another number.

    >>> from diffjax import schedules, sde
    >>> explicit(sde.VP(schedules.Linear()), 2, times=(1.0, 0.3)).tolist()
    [1.0, 0.3, 0.0]
    """
    if len(times) not in (steps, steps + 1):
        raise ValueError(f"times={times}: needs {steps} or {steps + 1} times for steps={steps}")
    return np.array(times if len(times) > steps else (*times, 0.0))


@grid
def nested(sde: SDE, steps: int, times: tuple[float, ...] = ()) -> np.ndarray:
    """Take every k-th of the given times, so that the grids of fewer steps lie in those of more.

    times: k * steps + 1 of them, the last of which ends the grid; by default `steps` equal steps in
    t, of which the last leads to the data. Raises ValueError for another number.

    >>> from diffjax import schedules, sde
    >>> vp, times = sde.VP(schedules.Linear()), (1.0, 0.7, 0.5, 0.2, 0.0)
    >>> [nested(vp, steps, times).tolist() for steps in (4, 2, 1)]
    [[1.0, 0.7, 0.5, 0.2, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0]]
    """
    if not times:
        return _between(sde, np.arange(steps) / steps)
    if len(times) <= steps or (len(times) - 1) % steps:
        raise ValueError(
            f"times: {len(times)} of them; needs k * {steps} + 1 of them for steps={steps}"
        )
    return np.array(times)[:: (len(times) - 1) // steps]


@grid
def shifted(
    sde: SDE, steps: int, shift: float = 3.0, inner: bool = False, even: bool = False
) -> np.ndarray:
    """Take equal steps in u, where t = shift u / (1 + (shift - 1) u) (arXiv:2403.03206, eq. 23).

    shift: > 0; above 1 it puts more steps near the noise. inner: take one time more than needed and
    leave out the lowest, t_min. even: take equal steps in u from t_max down to the data, as Flux.1
    does, instead of down to t_min. Raises ValueError unless 0 < shift < inf.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_min=0.01, t_max=1.0)
    >>> shifted(flow, 3).round(3).tolist()
    [1.0, 0.751, 0.01, 0.0]
    >>> shifted(flow, 3, even=True).round(3).tolist()
    [1.0, 0.857, 0.6, 0.0]
    """
    if not 0 < shift < np.inf:
        raise ValueError(f"shift={shift}: needs 0 < shift < inf")
    low, high = (t / (shift - (shift - 1) * t) for t in (sde.t_min, sde.t_max))
    shares = np.arange(steps) / steps if even else _shares(steps + inner)[:steps]
    u = high - (high - low * (not even)) * shares
    return _to_data(sde, shift * u / (1 + (shift - 1) * u))


@grid
def linspace(
    sde: SDE, steps: int, total: int = 1000, inner: bool = False, to_data: bool = True
) -> np.ndarray:
    """Take the discrete indices round(linspace(total - 1, 0, steps)).

    total: number of steps of the discrete process; index k is t = (k + 1) / total. inner: take one
    index more than needed and leave out the lowest, 0. to_data: whether the last step leads to the
    data; otherwise it leads to index 0. Raises ValueError for steps > total, for times outside of
    [t_min, t_max], and for a last step from index 0 to itself.

    >>> from diffjax import schedules, sde
    >>> (1000 * linspace(sde.VP(schedules.Linear()), 4)).round().tolist()  # index + 1
    [1000.0, 667.0, 334.0, 1.0, 0.0]
    """
    count = steps + inner
    index = np.round(np.linspace(0, total - 1, count)) if count > 1 else np.array([total - 1.0])
    return _discrete(sde, index[::-1][:steps], total, to_data)


@grid
def leading(
    sde: SDE,
    steps: int,
    total: int = 1000,
    offset: int = 0,
    inner: bool = False,
    to_data: bool = True,
) -> np.ndarray:
    """Take the discrete indices 0, r, 2 r, ... plus `offset`, with r = total // steps.

    total, inner, to_data and errors are those of `linspace` (arXiv:2305.08891, tab. 2).

    >>> from diffjax import schedules, sde
    >>> (1000 * leading(sde.VP(schedules.Linear()), 4, offset=1)).round().tolist()  # index + 1
    [752.0, 502.0, 252.0, 2.0, 0.0]
    """
    count = steps + inner
    index = np.arange(count)[::-1][:steps] * (total // count) + offset
    return _discrete(sde, index, total, to_data)


@grid
def trailing(sde: SDE, steps: int, total: int = 1000, to_data: bool = True) -> np.ndarray:
    """Take the discrete indices round(total - i total / steps) - 1, which begin at pure noise.

    total, to_data and errors are those of `linspace` (arXiv:2305.08891, tab. 2).

    >>> from diffjax import schedules, sde
    >>> (1000 * trailing(sde.VP(schedules.Linear()), 4)).round().tolist()
    [1000.0, 750.0, 500.0, 250.0, 0.0]
    """
    index = np.round(np.linspace(total, 0, steps + 1)[:-1]) - 1
    return _discrete(sde, index, total, to_data)


def _shares(steps: int) -> np.ndarray:
    """Return `steps` equally spaced numbers from 0, which stands for t_max, to 1."""
    return np.linspace(0.0, 1.0, steps)


def _between(sde: SDE, share: np.ndarray) -> np.ndarray:
    return _to_data(sde, sde.t_max - (sde.t_max - sde.t_min) * share)


def _at_lambda(sde: SDE, lam: np.ndarray) -> np.ndarray:
    times, end = np.array(float64(sde.inverse)(2 * lam)), ends(sde)
    times[np.isclose(lam, end.lam[0], rtol=1e-12)] = sde.t_min
    times[np.isclose(lam, end.lam[1], rtol=1e-12)] = sde.t_max
    return _to_data(sde, times)


def _to_data(sde: SDE, times: np.ndarray) -> np.ndarray:
    """Clip the times to [t_min, t_max], beyond which only rounding takes them, and append 0."""
    return np.append(np.clip(times, sde.t_min, sde.t_max), 0.0)


def _discrete(sde: SDE, index: np.ndarray, total: int, to_data: bool) -> np.ndarray:
    times = (index + 1) / total
    if len(times) > total or (np.diff(index) >= 0).any():
        raise ValueError(
            f"steps={len(times)}: needs at most total={total} steps, with distinct indices"
        )
    if times[0] > sde.t_max or times[-1] < sde.t_min - 1e-12:
        raise ValueError(
            f"times from {times[0]:g} to {times[-1]:g}: outside t_min={sde.t_min} to "
            f"t_max={sde.t_max} of {sde}"
        )
    if not to_data and index[-1] == 0:
        raise ValueError(
            "to_data=False: the last step would lead from index 0 to itself; needs an offset, or "
            "inner=True"
        )
    return np.append(times, 0.0 if to_data else 1 / total)


def _finite(name: str, sde: SDE) -> np.ndarray:
    """Return log(alpha / sigma) at t_min and t_max; raise ValueError where it is infinite."""
    lam = ends(sde).lam
    if not np.isfinite(lam[1]):
        raise ValueError(
            f"grid {name} with {sde}: the log-SNR is -inf at t_max={sde.t_max}; allowed: t_max < "
            f"1, or the grids uniform, quadratic, cosine, beta, trailing"
        )
    return lam


def _range(name: str, sde: SDE, low: float, high: float) -> tuple[float, float]:
    """Return the range of sigma / alpha: `low` and `high` where set, those of the process else.

    Raises ValueError for values beyond those of the process.
    """
    least, most = np.exp(-ends(sde).lam)
    if low and not least * (1 - 1e-6) <= low:
        raise ValueError(f"sigma_min={low}: needs at least {least:g}, as at t_min={sde.t_min}")
    if np.isfinite(high) and not high <= most * (1 + 1e-6):
        raise ValueError(f"sigma_max={high}: needs at most {most:g}, as at t_max={sde.t_max}")
    if not np.isfinite(high):
        _finite(name, sde)
    low, high = low or least, min(high, most)
    if not low < high:
        raise ValueError(f"sigma_min={low:g}: needs sigma_min < sigma_max={high:g}")
    return low, high


GRIDS = catalogue(
    uniform,
    quadratic,
    cosine,
    beta,
    logsnr_uniform,
    exponential,
    karras,
    explicit,
    nested,
    shifted,
    linspace,
    leading,
    trailing,
)
