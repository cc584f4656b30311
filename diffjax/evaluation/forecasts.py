"""Scores of ensembles of forecasts, in float64 on the host.

An ensemble x has M members first, (M, N, D): N cases of D values each; y (N, D) are the outcomes.
The fair scores are those that M members would have on average if there were infinitely many
(Ferro 2014, doi:10.1002/qj.2270).
"""

from __future__ import annotations

import numpy as np


def crps(x: np.ndarray, y: np.ndarray, fair: bool = True) -> np.ndarray:
    """Compute the continuous ranked probability score of each value, (...).

    It is mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 M^2), and M (M - 1) in place of M^2 if it is
    fair. The double sum is 2 sum_i (2 i - M - 1) x_(i) over the sorted members, i from 1: O(M log
    M). x: (M, ...). y: (...). Raises ValueError for other shapes, and for fewer than two members.

    >>> crps(np.array([0.0, 2.0]), np.array(1.0), fair=False).item()
    0.5
    """
    x, y = _checked(x, y)
    count = len(x)
    factor = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *[1] * y.ndim)
    pairs = 2 * (factor * np.sort(x, axis=0)).sum(0)
    return np.abs(x - y).mean(0) - pairs / (2 * count * (count - fair))


def crps_gaussian(mean: np.ndarray, std: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the score of normal distributions (Gneiting et al. 2005, doi:10.1175/MWR2904.1).

    std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = (y - mean) / std.

    >>> round(crps_gaussian(np.array(0.0), np.array(1.0), np.array(0.0)).item(), 4)
    0.2337
    """
    from scipy.special import ndtr

    z = (np.asarray(y, np.float64) - mean) / std
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def energy_score(x: np.ndarray, y: np.ndarray, fair: bool = True) -> np.ndarray:
    """Compute the energy score of each case, (N,): the CRPS with the norms of vectors.

    x: (M, N, D). y: (N, D). Raises ValueError as `crps` does.

    >>> energy_score(np.zeros((2, 1, 2)), np.array([[3.0, 4.0]])).tolist()
    [5.0]
    """
    x, y = _checked(x, y)
    pairs = sum(np.linalg.norm(x - member, axis=-1).sum(0) for member in x)
    return np.linalg.norm(x - y, axis=-1).mean(0) - pairs / (2 * len(x) * (len(x) - fair))


def spread_skill(x: np.ndarray, y: np.ndarray) -> float:
    """Return the ratio of the spread of an ensemble to its error, 1 if members are like outcomes.

    sqrt((M + 1) / M mean var) / sqrt(mean (mean - y)^2), with the unbiased variance of members
    (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1). Raises ValueError as `crps` does.

    >>> x = np.array([[-1.0], [1.0]])
    >>> spread_skill(x, np.array([3.0**0.5])).__round__(6)
    1.0
    """
    x, y = _checked(x, y)
    error = ((x.mean(0) - y) ** 2).mean()
    return float(np.sqrt((len(x) + 1) / len(x) * x.var(0, ddof=1).mean() / error))


def rank_histogram(x: np.ndarray, y: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the shares (M + 1,) of ranks of outcomes among members, flat if they are alike.

    Ties are broken at random. Raises ValueError as `crps` does.

    >>> rank_histogram(np.array([[0.0], [2.0]]), np.array([1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    x, y = _checked(x, y)
    below, equal = (x < y).sum(0), (x == y).sum(0)
    rank = below + np.random.Generator(np.random.Philox(key=seed)).integers(0, equal + 1)
    return np.bincount(rank.ravel(), minlength=len(x) + 1) / y.size


def spectrum(x: np.ndarray) -> np.ndarray:
    """Compute the mean power of each wave number of periodic rows, (D // 2 + 1,).

    |sum_d x_d exp(-2 pi i k d / D)|^2 / D, whose mean over all D wave numbers is the mean square.
    x: (..., D), with the mean over all other axes.

    >>> spectrum(np.ones((1, 4))).tolist()
    [4.0, 0.0, 0.0]
    """
    power = np.abs(np.fft.rfft(np.asarray(x, np.float64), axis=-1)) ** 2 / x.shape[-1]
    return power.reshape(-1, power.shape[-1]).mean(0)


def _checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim == 0 or x.shape[1:] != y.shape:
        raise ValueError(f"an ensemble of shape {x.shape} for outcomes of {y.shape}: needs (M, *y)")
    if len(x) < 2:
        raise ValueError(f"an ensemble of {len(x)} members: needs at least 2")
    return x, y
