"""Confidence intervals of shares."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""Half-width, in standard errors, of the 95 % interval of a normal distribution."""


def wilson(rate: float, count: int | float) -> list[float]:
    """Return the 95 % interval [low, high] of a share of `count` independent trials (Wilson 1927).

    Its bounds solve |rate - p| = Z sqrt(p (1 - p) / count) for p. count may be fractional; without
    a trial the interval is [0, 1].

    >>> [round(p, 3) for p in wilson(0.95, 1000)]
    [0.935, 0.962]
    """
    if not count:
        return [0.0, 1.0]
    centre = (rate + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = math.sqrt(rate * (1 - rate) / count + (Z / (2 * count)) ** 2) * Z / (1 + Z**2 / count)
    return [max(centre - half, 0.0), min(centre + half, 1.0)]
