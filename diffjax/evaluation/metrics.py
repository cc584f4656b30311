"""Metrics of samples against data, from features (N, D): float64 on the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of Gaussian fits to features `a` and `b` (arXiv:1706.08500, eq. 6).

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2). With C = R^T R the last trace is
    the sum of the singular values of R_a R_b^T, for any root R: one of min(N, D) rows makes it
    exact for singular covariances, and cheap for fewer samples than features. Raises ValueError for
    fewer than two samples.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"frechet of {len(a)} and {len(b)} samples: needs at least 2 of each")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    root_a, root_b = _root(a), _root(b)
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(apart + (root_a**2).sum() + (root_b**2).sum() - 2 * cross)


def _root(x: np.ndarray) -> np.ndarray:
    """R (min(N, D), D) with R^T R the covariance of x."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, "r")) if len(x) > x.shape[1] else centred


class Frechet(NamedTuple):
    """Distance of samples from data, and that of data from data, at equal sample counts.

    Both are means over `splits` random halves of the data, of `count` samples each side.
    """

    distance: float
    floor: float
    ratio: float
    count: int
    splits: int


def frechet_with_floor(
    samples: np.ndarray, data: np.ndarray, splits: int = 8, seed: int = 0
) -> Frechet:
    """Frechet distance of `samples` to random halves of `data`, beside that of half to half.

    The estimate is biased upwards by the sample count alone, so a bare value says little; at equal
    counts the floor is what a perfect model reaches.
    """
    count = min(len(samples), len(data) // 2)
    rng = np.random.Generator(np.random.Philox(key=seed))
    distances, floors = [], []
    for _ in range(splits):
        order = rng.permutation(len(data))
        half, other = data[order[:count]], data[order[count : 2 * count]]
        distances.append(frechet(samples[rng.permutation(len(samples))[:count]], half))
        floors.append(frechet(other, half))
    distance, floor = float(np.mean(distances)), float(np.mean(floors))
    if floor <= 0:
        raise ValueError("the halves of the data do not differ: a Frechet floor needs varied data")
    return Frechet(distance, floor, distance / floor, count, splits)


def nearest(a: np.ndarray, b: np.ndarray, block: int = 4096) -> np.ndarray:
    """Euclidean distance of each row of `a` to the nearest row of `b`, (N,), by blocks of `b`."""
    a, best = np.asarray(a, np.float64), np.full(len(a), np.inf)
    for start in range(0, len(b), block):
        part = np.asarray(b[start : start + block], np.float64)
        squares = (a**2).sum(1)[:, None] + (part**2).sum(1)[None] - 2 * a @ part.T
        best = np.minimum(best, squares.min(1))
    return np.sqrt(best.clip(0))


class Memorization(NamedTuple):
    """Medians of the distance to the nearest training item: of samples, and of held-out data.

    A model that copies its training set has a ratio far below 1. closer: share of samples nearer
    to a training item than 99 % of the held-out items are.
    """

    samples: float
    held_out: float
    ratio: float
    closer: float


def memorization(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Memorization:
    """Compare how near samples and held-out items come to the training items."""
    ours, theirs = nearest(samples, train), nearest(held_out, train)
    a, b = float(np.median(ours)), float(np.median(theirs))
    if b <= 0:
        raise ValueError("most held-out items are training items: no baseline for memorization")
    return Memorization(a, b, a / b, float((ours < np.quantile(theirs, 0.01)).mean()))
