"""The noise of one Brownian path per sample, so that more steps refine the same sample.

The noise of the reverse SDE with noise sqrt(eta) g dw between lambda_t and lambda_s is an increment
of a Brownian motion W on the clock exp(2 eta lambda) (arXiv:2309.05019, prop. 4.1, with eta =
tau^2). With u = 2 eta lambda, B(u) = exp(-u / 2) W(exp(u)) is stationary, of covariance exp(-|u -
v| / 2), and the noise of a step from u to v is z = (B(v) - r B(u)) / sqrt(1 - r^2), r = exp(-(v -
u) / 2).

B at any u follows from its values at two ends by halving the interval, with fresh noise for each
middle: a virtual Brownian tree (arXiv:2001.01328, sec. 4). All clocks of a table are known when it
is planned, so every z is a fixed linear combination of independent normals, which are numbered by
their place in the tree. Numbers and coefficients are computed here in float64; the compiled loop
only adds them up.
"""

from __future__ import annotations

import numpy as np

ROOT = 32.0
"""Distance of the first nodes in u; their correlation, exp(-16), is below that of float32."""
LEVELS = 12
"""Number of halvings: steps shorter than ROOT / 2^LEVELS = 0.008 in u have correlated noises."""
FIRST = 2**24
"""Number of the first node of the tree; smaller numbers are rows with independent noise."""
MOST = 1024.0
"""The largest |u| that the tree covers."""


def increments(clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise of R steps as numbers of normals and their coefficients, (R, N) each.

    clock: (R, 2), the values of 2 eta lambda between which each step's noise is an increment; -inf
    for a start at alpha = 0, NaN for noise that belongs to no path. The squares of a row's
    coefficients sum to 1. Raises ValueError beyond |u| = 1024.
    """
    is_fresh = np.isnan(clock[:, 0] + clock[:, 1])
    start, end = np.where(is_fresh[:, None], np.array([[0.0, 1.0]]), clock).T
    start = np.where(np.isinf(start), end - 2 * ROOT, start)  # uncorrelated at that distance
    if not (reach := np.abs([start, end]).max()) <= MOST:
        raise ValueError(f"2 eta lambda reaches {reach:.4g}: needs <= {MOST:g}")
    nodes, ahead = _value(end)
    before, behind = _value(start)
    behind = -np.exp((start - end) / 2)[:, None] * behind
    # Nodes that both ends share must occur once, with the sum of both coefficients.
    for k, j in [*((k, k) for k in range(nodes.shape[1])), (0, 1)]:
        shared = nodes[:, k] == before[:, j]
        ahead[:, k] += np.where(shared, behind[:, j], 0)
        behind[:, j] = np.where(shared, 0, behind[:, j])
    nodes, shares = np.concatenate([nodes, before], 1), np.concatenate([ahead, behind], 1)
    # The norm of B(v) - r B(u) is sqrt(1 - r^2): dividing by it gives unit variance.
    norm = np.sqrt((shares**2).sum(1, keepdims=True))
    shares = shares / np.where(norm > 0, norm, 1)
    shares[is_fresh], shares[is_fresh, 0] = 0.0, 1.0
    nodes[is_fresh, 0] = np.flatnonzero(is_fresh)
    front = np.argsort(shares == 0, axis=1, kind="stable")[:, : (shares != 0).sum(1).max()]
    return np.take_along_axis(nodes, front, 1), np.take_along_axis(shares, front, 1)


def _value(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return B at u (R,) as numbers of the nodes on the path to it and their coefficients.

    Both are (R, 3 + LEVELS).
    """
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
    """Return the coefficients (R, N) of B(u) given B(a) and B(b), a <= u < b, and the noise z."""
    one, two = -np.expm1(a - u), -np.expm1(u - b)  # 1 - r^2 of both parts
    whole = -np.expm1(a - b)
    weights = np.exp((a - u) / 2) * two / whole, np.exp((u - b) / 2) * one / whole
    return (
        weights[0][:, None] * at_a
        + weights[1][:, None] * at_b
        + np.sqrt(one * two / whole)[:, None] * z
    )
