"""Validators of settings: each raises ValueError with the name, the value and what is allowed.

Settings are passed by name, and the first bad one is reported: `at_least(1, width=width)` raises
`width=0: needs width >= 1`. NaN is never allowed. The builder adds the place in the config.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

SEEDS = 2**32
"""Seeds are below it: a random key is made of 32 bits."""


def at_least(least: float, **settings: float) -> None:
    """Raise ValueError for a setting below `least`.

    >>> at_least(1, width=0)
    Traceback (most recent call last):
    ValueError: width=0: needs width >= 1
    """
    for name, value in settings.items():
        if not value >= least:
            raise ValueError(f"{name}={value}: needs {name} >= {least:g}")


def positive(**settings: float | None) -> None:
    """Raise ValueError for a setting that is not above 0; None is a setting that is off."""
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: needs {name} > 0")


def within(low: float, high: float, ends: str = "[]", **settings: float) -> None:
    """Raise ValueError for a setting outside of the interval from `low` to `high`.

    ends: which ends belong to it, a bracket for one that does: `[)` is low <= value < high.

    >>> within(0, 1, "[)", dropout=1.0)
    Traceback (most recent call last):
    ValueError: dropout=1.0: needs 0 <= dropout < 1
    """
    above, below = "<=" if ends[0] == "[" else "<", "<=" if ends[1] == "]" else "<"
    for name, value in settings.items():
        is_above = low <= value if above == "<=" else low < value
        is_below = value <= high if below == "<=" else value < high
        if not (is_above and is_below):
            raise ValueError(f"{name}={value}: needs {low:g} {above} {name} {below} {high:g}")


def not_negative(**settings: float) -> None:
    """Raise ValueError for a setting that is below 0 or not finite."""
    within(0, math.inf, "[)", **settings)


def one_of(known: Iterable[Any], **settings: Any) -> None:
    """Raise ValueError for a setting that is not among the known values.

    >>> one_of(("mean", "max"), pool="min")
    Traceback (most recent call last):
    ValueError: pool='min': known: 'mean', 'max'
    """
    known = list(known)
    for name, value in settings.items():
        if value not in known:
            raise ValueError(f"{name}={value!r}: known: {', '.join(map(repr, known))}")


def in_range(stop: int, **settings: int) -> None:
    """Raise ValueError for an integer outside of 0, ..., stop - 1.

    >>> in_range(SEEDS, seed=-1)
    Traceback (most recent call last):
    ValueError: seed=-1: needs 0 <= seed < 2**32
    """
    shown = f"2**{stop.bit_length() - 1}" if stop >= 1024 and stop & (stop - 1) == 0 else stop
    for name, value in settings.items():
        if not 0 <= value < stop:
            raise ValueError(f"{name}={value}: needs 0 <= {name} < {shown}")
