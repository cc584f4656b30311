"""The problem of `exact.py` and `peers.py`, in NumPy alone: exact scores, starts and end points.

Everything is in coordinates x / alpha and rho = sigma / alpha, where VE and VP are the same.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import integrate, stats

HERE = Path(__file__).parent
BUDGETS = (5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 70, 100)
NUM = 2048
ANGLES = np.pi * np.arange(16) / 16
"""Directions that the sliced distance projects on."""
WEIGHT = np.array([0.5, 0.3, 0.2])
CENTRE = np.array([[-0.8, 0.3], [0.7, 0.5], [0.2, -0.9]])
SCALE = np.array([[0.4, 0.1], [0.1, 0.3], [0.05, 0.05]])
"""Deviations of the parts along both axes."""
MEAN = WEIGHT @ CENTRE
COVARIANCE = (CENTRE - MEAN).T * WEIGHT @ (CENTRE - MEAN) + np.diag(WEIGHT @ SCALE**2)
DEVIATION = float(np.sqrt(np.trace(COVARIANCE) / 2))
"""Of the data, per dimension: the unit of all errors."""
VARIANCES = np.sort(np.concatenate([np.linalg.eigvalsh(COVARIANCE), SCALE.ravel() ** 2]))
"""Those of the data and of its parts: the Gaussian data that grids are made for."""


@dataclass(frozen=True)
class Process:
    """rho at time t, t at rho, and the ends of time."""

    rho: Callable[[np.ndarray], np.ndarray]
    time: Callable[[np.ndarray], np.ndarray]
    t_min: float

    @property
    def most(self) -> float:
        return float(self.rho(np.array(1.0)))

    @property
    def least(self) -> float:
        return float(self.rho(np.array(self.t_min)))


def _betas(t: np.ndarray) -> np.ndarray:
    return 0.1 * t + 19.9 / 2 * t**2


def _betas_inverse(rho: np.ndarray) -> np.ndarray:
    b = np.log1p(rho**2)
    return 2 * b / (0.1 + np.sqrt(0.01 + 2 * 19.9 * b))


LOW, HIGH = 0.002 ** (1 / 7), 80 ** (1 / 7)
PROCESSES = {
    "edm": Process(
        lambda t: (LOW + (HIGH - LOW) * t) ** 7,
        lambda rho: (rho ** (1 / 7) - LOW) / (HIGH - LOW),
        1e-9,
    ),
    "vp": Process(lambda t: np.sqrt(np.expm1(_betas(t))), _betas_inverse, 1e-3),
}
"""EDM's sigma from 80 to 0.002, and VP of beta from 0.1 to 20, t from 1 to 0.001."""


def plain_grids(process: Process, steps: int) -> dict[str, np.ndarray]:
    """Levels rho of the grids of `diffjax.grids`, written again; the last one is 0."""
    share, low, high = np.linspace(0, 1, steps), process.least, process.most
    t_min = process.t_min
    index = np.arange(steps)
    rho = {
        "karras": (high ** (1 / 7) - (high ** (1 / 7) - low ** (1 / 7)) * share) ** 7,
        "exponential": high * (low / high) ** share,
    }
    times = {
        "uniform": 1 - (1 - t_min) * share,
        "quadratic": (1 - (1 - np.sqrt(t_min)) * share) ** 2,
        "cosine": 1 - (1 - t_min) * np.sin(np.pi / 2 * share) ** 2,
        "beta": t_min + (1 - t_min) * stats.beta.ppf(1 - share, 0.6, 0.6),
        "linspace": (np.round(np.linspace(0, 999, steps))[::-1] + 1) / 1000,
        "leading": (index[::-1] * (1000 // steps) + 1) / 1000,
        "trailing": np.round(np.linspace(1000, 0, steps + 1)[:-1]) / 1000,
    }
    grids = rho | {name: process.rho(np.maximum(t, t_min)) for name, t in times.items()}
    return {name: np.append(levels, 0.0) for name, levels in grids.items()}


def posterior_mean(x: np.ndarray, rho: float) -> np.ndarray:
    """E[x0 | x] (N, 2) at x = x0 + rho eps."""
    var = SCALE**2 + rho**2
    logp = np.stack([-((x - c) ** 2 @ (0.5 / v)) for c, v in zip(CENTRE, var, strict=True)], 1)
    logp += np.log(WEIGHT) - 0.5 * np.log(var).sum(1)
    share = np.exp(logp - logp.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    gain = SCALE**2 / var
    return share @ (CENTRE * (1 - gain)) + x * (share @ gain)


@functools.cache
def noise() -> np.ndarray:
    """The starts, in units of the first level (NUM, 2)."""
    return np.random.default_rng(0).normal(size=(NUM, 2))


@functools.cache
def ends(most: float, num: int = NUM) -> np.ndarray:
    """Where the probability-flow ODE takes the first `num` starts from rho = most, at rho = 0.

    d (x / alpha) / d lambda = x0 - x / alpha, lambda = -log rho, up to where the rest is 1e-15.
    """
    slope = lambda lam, x: (posterior_mean(x.reshape(-1, 2), np.exp(-lam)) - x.reshape(-1, 2)).flat
    span = (-np.log(most), -np.log(1e-8))
    start = most * noise()[:num].ravel()
    made = integrate.solve_ivp(
        lambda lam, x: np.array(slope(lam, x)), span, start, "DOP853", rtol=1e-12, atol=1e-13
    )
    return made.y[:, -1].reshape(-1, 2)


def path_error(x: np.ndarray, most: float) -> float:
    """RMS distance to the exact end points, in units of the data's deviation."""
    return float(np.sqrt(np.mean((x - ends(most)) ** 2)) / DEVIATION)


@functools.cache
def _quantiles(num: int) -> np.ndarray:
    """Of the projected data at (i + 1/2) / num, per direction (len(ANGLES), num)."""
    directions = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
    axis = np.linspace(-5, 5, 200_001)
    rows = []
    for d in directions.T:
        deviation = np.sqrt(SCALE**2 @ d**2)
        cdf = stats.norm.cdf((axis[:, None] - CENTRE @ d) / deviation) @ WEIGHT
        rows.append(np.interp((np.arange(num) + 0.5) / num, cdf, axis))
    return np.array(rows)


def law_error(x: np.ndarray) -> float:
    """Sliced Wasserstein-2 distance of samples (N, 2) to the data's exact law, in its deviation."""
    made = np.sort(np.cos(ANGLES)[:, None] * x[:, 0] + np.sin(ANGLES)[:, None] * x[:, 1], axis=1)
    return float(np.sqrt(np.mean((made - _quantiles(len(x))) ** 2)) / DEVIATION)


def floor(draws: int = 50) -> float:
    """`law_error` of NUM exact draws, on average: nothing can be told apart below it."""
    rng, errors = np.random.default_rng(1), []
    for _ in range(draws):
        part = rng.choice(len(WEIGHT), NUM, p=WEIGHT)
        errors.append(law_error(CENTRE[part] + SCALE[part] * rng.normal(size=(NUM, 2))))
    return float(np.mean(errors))
