"""Time grids: where a sampler asks the network. `(sde, steps) -> times`, float64, decreasing.

A grid has `steps + 1` times: `steps` from t_max to t_min, then 0, which stands for the data
(sigma = 0). Any explicit array of decreasing times is a grid too; one that ends above 0 leaves its
last noise level in the result, and an increasing one, from above 0, inverts an ODE.
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
    """A function that is called with a process and with one step or more. Raises ValueError."""

    @functools.wraps(function)
    def checked(sde: SDE, steps: int, *settings: Any, **named: Any) -> np.ndarray:
        checks.instance(SDE, "diffjax.sde.VP(diffjax.schedules.Linear())", sde=sde)
        checks.whole(1, steps=steps)
        return function(sde, steps, *settings, **named)

    return checked


@grid
def uniform(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in t; with t_min = 1/steps the discrete DDPM times (arXiv:2006.11239).

    >>> from diffjax import schedules, sde
    >>> uniform(sde.VP(schedules.Linear(), t_min=0.1), 4).round(6).tolist()
    [1.0, 0.7, 0.4, 0.1, 0.0]
    """
    return _between(sde, _shares(steps))


@grid
def quadratic(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in sqrt(t): more of them near the data (arXiv:2010.02502, app. D.2)."""
    low, high = np.sqrt(sde.t_min), np.sqrt(sde.t_max)
    return _to_data(sde, (high - (high - low) * _shares(steps)) ** 2)


@grid
def cosine(sde: SDE, steps: int) -> np.ndarray:
    """t_max - (t_max - t_min) sin^2(pi / 2 share): more steps near both ends."""
    return _between(sde, np.sin(np.pi / 2 * _shares(steps)) ** 2)


@grid
def beta(sde: SDE, steps: int, alpha: float = 0.6, beta: float = 0.6) -> np.ndarray:
    """Quantiles of a beta distribution of t (arXiv:2407.12173): below 1, more near both ends."""
    within(0, np.inf, "()", alpha=alpha, beta=beta)
    return _between(sde, 1 - special.betaincinv(alpha, beta, 1 - _shares(steps)))


@grid
def logsnr_uniform(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in log-SNR (arXiv:2206.00927, sec. 3.4), that is in log(sigma / alpha)."""
    lam_max, lam_min = _finite("logsnr_uniform", sde)
    return _at_lambda(sde, lam_min + (lam_max - lam_min) * _shares(steps))


@grid
def exponential(
    sde: SDE, steps: int, sigma_min: float = 0.0, sigma_max: float = np.inf
) -> np.ndarray:
    """Equal steps in log(sigma / alpha), between sigma_min and sigma_max or the ends of time."""
    low, high = _range("exponential", sde, sigma_min, sigma_max)
    return _at_lambda(sde, -np.log(high) + np.log(high / low) * _shares(steps))


@grid
def karras(
    sde: SDE, steps: int, rho: float = 7.0, sigma_min: float = 0.0, sigma_max: float = np.inf
) -> np.ndarray:
    """Equal steps in (sigma / alpha)^(1 / rho) (arXiv:2206.00364, eq. 5), as `exponential` else.

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
    """These times; as many as `steps`, or one more that ends the grid (0 is put there
    otherwise)."""
    if len(times) not in (steps, steps + 1):
        raise ValueError(f"times={times}: needs {steps} or {steps + 1} of them, for steps={steps}")
    return np.array(times if len(times) > steps else (*times, 0.0))


@grid
def shifted(sde: SDE, steps: int, shift: float = 3.0, inner: bool = False) -> np.ndarray:
    """Equal steps in u, where t = shift u / (1 + (shift - 1) u) (arXiv:2403.03206, eq. 23).

    inner: of one more time than needed, the lowest, t_min, is left out.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_min=0.01, t_max=1.0)
    >>> shifted(flow, 3).round(3).tolist()
    [1.0, 0.751, 0.01, 0.0]
    """
    if not 0 < shift < np.inf:
        raise ValueError(f"shift={shift}: needs 0 < shift < inf")
    low, high = (t / (shift - (shift - 1) * t) for t in (sde.t_min, sde.t_max))
    u = high - (high - low) * _shares(steps + inner)[:steps]
    return _to_data(sde, shift * u / (1 + (shift - 1) * u))


@grid
def linspace(
    sde: SDE, steps: int, total: int = 1000, inner: bool = False, to_data: bool = True
) -> np.ndarray:
    """The discrete indices round(linspace(total - 1, 0, steps)); index k is t = (k + 1) / total.

    inner: of one more index than needed, the lowest, 0, is left out. to_data: the last step leads
    to the data, else to index 0.
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
    """The indices 0, r, 2 r, ... with r = total // steps, plus `offset` (arXiv:2305.08891, tab.
    2). inner, to_data: as in `linspace`."""
    count = steps + inner
    index = np.arange(count)[::-1][:steps] * (total // count) + offset
    return _discrete(sde, index, total, to_data)


@grid
def trailing(sde: SDE, steps: int, total: int = 1000, to_data: bool = True) -> np.ndarray:
    """The indices round(total - i total / steps) - 1: from pure noise (arXiv:2305.08891, tab.
    2). to_data: as in `linspace`."""
    index = np.round(np.linspace(total, 0, steps + 1)[:-1]) - 1
    return _discrete(sde, index, total, to_data)


def _shares(steps: int) -> np.ndarray:
    """0, ..., 1 in equal steps: 0 stands for t_max."""
    return np.linspace(0.0, 1.0, steps)


def _between(sde: SDE, share: np.ndarray) -> np.ndarray:
    return _to_data(sde, sde.t_max - (sde.t_max - sde.t_min) * share)


def _at_lambda(sde: SDE, lam: np.ndarray) -> np.ndarray:
    times, end = np.array(float64(sde.inverse)(2 * lam)), ends(sde)
    times[np.isclose(lam, end.lam[0], rtol=1e-12)] = sde.t_min
    times[np.isclose(lam, end.lam[1], rtol=1e-12)] = sde.t_max
    return _to_data(sde, times)


def _to_data(sde: SDE, times: np.ndarray) -> np.ndarray:
    """Within [t_min, t_max], which rounding may leave, and 0 at the end."""
    return np.append(np.clip(times, sde.t_min, sde.t_max), 0.0)


def _discrete(sde: SDE, index: np.ndarray, total: int, to_data: bool) -> np.ndarray:
    times = (index + 1) / total
    if len(times) > total or (np.diff(index) >= 0).any():
        raise ValueError(f"steps={len(times)}: needs at most total={total}, and no index twice")
    if times[0] > sde.t_max or times[-1] < sde.t_min - 1e-12:
        raise ValueError(
            f"times from {times[0]:g} to {times[-1]:g}: beyond t_min={sde.t_min} .. "
            f"t_max={sde.t_max} of {sde}"
        )
    if not to_data and index[-1] == 0:
        raise ValueError(
            "to_data=False: the last step would lead from index 0 to itself; needs an offset, or "
            "inner=True"
        )
    return np.append(times, 0.0 if to_data else 1 / total)


def _finite(name: str, sde: SDE) -> np.ndarray:
    """log(alpha / sigma) at t_min and t_max."""
    lam = ends(sde).lam
    if not np.isfinite(lam[1]):
        raise ValueError(
            f"grid {name} with {sde}: log-SNR is -inf at t_max={sde.t_max}; allowed: t_max < 1, or "
            f"the grids uniform, quadratic, cosine, beta, trailing"
        )
    return lam


def _range(name: str, sde: SDE, low: float, high: float) -> tuple[float, float]:
    """sigma / alpha from `low` to `high`, which must lie within the ends of time where given."""
    least, most = np.exp(-ends(sde).lam)
    if low and not least * (1 - 1e-6) <= low:
        raise ValueError(f"sigma_min={low}: needs at least {least:g}, that of t_min={sde.t_min}")
    if np.isfinite(high) and not high <= most * (1 + 1e-6):
        raise ValueError(f"sigma_max={high}: needs at most {most:g}, that of t_max={sde.t_max}")
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
    shifted,
    linspace,
    leading,
    trailing,
)
