"""Noise of one Brownian path per sample: the same sample, whatever the number of steps.

The noise of the reverse SDE with noise sqrt(eta) g dw between lambda_t and lambda_s is an increment
of a Brownian motion W on the clock exp(2 eta lambda) (arXiv:2309.05019, prop. 4.1, with eta =
tau^2). With u = 2 eta lambda, B(u) = exp(-u / 2) W(exp(u)) is stationary, of covariance exp(-|u -
v| / 2), and the noise of a step from u to v is z = (B(v) - r B(u)) / sqrt(1 - r^2), r = exp(-(v -
u) / 2).

B at any u follows from its values at two ends by halving the interval, with fresh noise for each
middle: a virtual Brownian tree (arXiv:2001.01328, sec. 4). All clocks of a table are known when it
is planned, so every z is a fixed linear combination of independent normals that are numbered by
their place in the tree: shares and numbers are made here, in float64, and the loop adds up.
"""

from __future__ import annotations

import numpy as np

ROOT = 32.0
"""Distance of the first nodes in u; their correlation, exp(-16), is below that of float32."""
LEVELS = 12
"""Halvings: steps shorter than ROOT / 2^LEVELS = 0.008 in u have correlated noises."""
FIRST = 2**24
"""Number of the first node; smaller numbers are rows with noise of their own."""
MOST = 1024.0
"""Largest |u|."""


def increments(clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The noise of steps from clock[:, 0] to clock[:, 1]: numbers of normals and their shares.

    clock (R, 2): 2 eta lambda, -inf for a start at alpha = 0; NaN where the noise is not of a path.
    Returns (R, N) each; shares have squares that sum to 1. Raises ValueError beyond |u| = 1024.
    """
    is_fresh = np.isnan(clock[:, 0] + clock[:, 1])
    start, end = np.where(is_fresh[:, None], np.array([[0.0, 1.0]]), clock).T
    start = np.where(np.isinf(start), end - 2 * ROOT, start)  # of no influence that far away
    if not (reach := np.abs([start, end]).max()) <= MOST:
        raise ValueError(f"2 eta lambda reaches {reach:.4g}: needs <= {MOST:g}")
    nodes, ahead = _value(end)
    before, behind = _value(start)
    behind = -np.exp((start - end) / 2)[:, None] * behind
    for k, j in [*((k, k) for k in range(nodes.shape[1])), (0, 1)]:  # nodes of both, once
        shared = nodes[:, k] == before[:, j]
        ahead[:, k] += np.where(shared, behind[:, j], 0)
        behind[:, j] = np.where(shared, 0, behind[:, j])
    nodes, shares = np.concatenate([nodes, before], 1), np.concatenate([ahead, behind], 1)
    norm = np.sqrt((shares**2).sum(1, keepdims=True))
    shares = shares / np.where(norm > 0, norm, 1)
    shares[is_fresh], shares[is_fresh, 0] = 0.0, 1.0
    nodes[is_fresh, 0] = np.flatnonzero(is_fresh)
    front = np.argsort(shares == 0, axis=1, kind="stable")[:, : (shares != 0).sum(1).max()]
    return np.take_along_axis(nodes, front, 1), np.take_along_axis(shares, front, 1)


def _value(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B at u (R,): numbers of the nodes on the way to it, and their weights, (R, 3 + LEVELS)."""
    cell = np.floor(u / ROOT)
    number = FIRST + (cell + MOST / ROOT + 1).astype(np.int64) * 2 ** (LEVELS + 1)
    left, right = cell * ROOT, (cell + 1) * ROOT
    unit = np.eye(3 + LEVELS)
    at_left, at_right = np.tile(unit[0], (len(u), 1)), np.tile(unit[1], (len(u), 1))
    place, nodes = np.ones(len(u), np.int64), [number, number + 2 ** (LEVELS + 1)]
    for level in range(LEVELS):
        nodes.append(number + place)
        middle = (left + right) / 2
        value = _bridge(left, middle, right, at_left, at_right, unit[2 + level])
        up = u >= middle
        left, right = np.where(up, middle, left), np.where(up, right, middle)
        at_left = np.where(up[:, None], value, at_left)
        at_right = np.where(up[:, None], at_right, value)
        place = 2 * place + up
    nodes.append(number + place)
    return np.stack(nodes, 1), _bridge(left, u, right, at_left, at_right, unit[-1])


def _bridge(
    a: np.ndarray, u: np.ndarray, b: np.ndarray, at_a: np.ndarray, at_b: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """B(u) given B(a) and B(b), a <= u < b, and noise z: weights of all nodes (R, N)."""
    one, two = -np.expm1(a - u), -np.expm1(u - b)  # 1 - r^2 of both parts
    whole = -np.expm1(a - b)
    weights = np.exp((a - u) / 2) * two / whole, np.exp((u - b) / 2) * one / whole
    return (
        weights[0][:, None] * at_a
        + weights[1][:, None] * at_b
        + np.sqrt(one * two / whole)[:, None] * z
    )
