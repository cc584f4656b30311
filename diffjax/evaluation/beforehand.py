"""Checks of a metric's settings and files, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from diffjax.checks import positive, within

Metric = TypeVar("Metric", bound=Callable[..., Any])
CHECK, COUNT, FEATURES, TAKES = "check_beforehand", "check_counts", "needs_features", "takes"
REFUSED = {
    "ends": "would include the padding of {kind} items with lengths; allowed: metrics of such "
    "items, as molecules",
    "gaps": "values of {kind} items are missing; allowed: the metrics of forecasts",
}
"""Why most metrics refuse items with lengths, and items with missing values."""
LEAST = {
    **dict.fromkeys(("num", "steps", "cells", "pairs", "resamples"), 0),
    **dict.fromkeys(("splits", "subsets", "k", "repeats", "samples", "probes"), 1),
    **dict.fromkeys(("size", "points"), 2),
}
"""The least values of counts, which mean the same in every metric that has them."""
MOST = 2**31 - 1
SCALES = ("sigma", "scale")
"""The settings that must be positive."""


class Counts(NamedTuple):
    """The numbers of samples, training and held-out items that a metric receives, and of classes.

    classes: of the data. asked: classes that samples were generated for, 0 without labels.
    cases: held-out items whose conditions samples have, 0 for none. kind: that of the items, an
    entry of `data.KINDS`, "" where it does not matter. ends: True if items have lengths. gaps:
    whether values of items are missing.
    """

    samples: int
    real: int
    held_out: int
    classes: int = 0
    asked: int = 0
    cases: int = 0
    kind: str = ""
    ends: bool = False
    gaps: bool = False


def checked(check: Callable[..., Any]) -> Callable[[Metric], Metric]:
    """Decorate a metric with a check of its settings, which takes those it needs as keywords."""

    def mark(metric: Metric) -> Metric:
        setattr(metric, CHECK, check)
        return metric

    return mark


def counting(check: Callable[..., Any]) -> Callable[[Metric], Metric]:
    """Decorate a metric with a check of `Counts`, which takes the settings it needs as keywords."""

    def mark(metric: Metric) -> Metric:
        setattr(metric, COUNT, check)
        return metric

    return mark


def needs(counts: Counts, kind: str, items: str, held_out: int = 1) -> None:
    """Raise ValueError for items of another kind, and for fewer held-out ones than a metric needs.

    items: the word for items of this kind, for the message.

    >>> needs(Counts(9, 9, 9, kind="image"), "cloud", "clouds of points")
    Traceback (most recent call last):
    ValueError: needs clouds of points; the items are image
    """
    if counts.kind not in ("", kind):
        raise ValueError(f"needs {items}; the items are {counts.kind}")
    if counts.held_out < held_out:
        raise ValueError("there are no held-out items; allowed: the other metrics")


def taking(*what: str) -> Callable[[Metric], Metric]:
    """Decorate a metric as one for items with lengths (`ends`) or missing values (`gaps`)."""

    def mark(metric: Metric) -> Metric:
        setattr(metric, TAKES, what)
        return metric

    return mark


def needing(kind: str) -> Callable[[Metric], Metric]:
    """Decorate a metric as one that needs this kind of features, see `samples.GIVEN`."""

    def mark(metric: Metric) -> Metric:
        setattr(metric, FEATURES, kind)
        return metric

    return mark


def features_of(metric: Any) -> str:
    """Return the kind of features that a metric needs besides `pool`, or ""."""
    return getattr(getattr(metric, "function", metric), FEATURES, "")


def beforehand(metric: Any) -> None:
    """Check the settings of a metric, which may be a partial function.

    Raises ValueError, in one line, for a number out of its range, and for a file that cannot be
    read or written or has other contents.
    """
    function, arguments = getattr(metric, "function", metric), getattr(metric, "arguments", ())
    for name, value in dict(arguments).items():
        if name in LEAST:
            within(LEAST[name], MOST, **{name: value})
        elif name in SCALES:
            positive(**{name: value})
        elif callable(value):  # a part, such as the estimator of the trace
            beforehand(value)
    if dict(arguments).get("resamples") == 1:
        raise ValueError("resamples=1: needs at least 2, or 0 for no intervals")
    if check := getattr(function, CHECK, None):
        check(**dict(arguments))


def enough(metric: Any, counts: Counts) -> None:
    """Check that there is as much to see as a metric needs with its settings.

    Raises ValueError in one line for too few samples or items, for samples without classes, and for
    items with lengths or with missing values that the metric does not take.
    """
    function, arguments = getattr(metric, "function", metric), getattr(metric, "arguments", ())
    for name, why in REFUSED.items():
        if getattr(counts, name) and name not in getattr(function, TAKES, ()):
            raise ValueError(why.format(kind=counts.kind))
    if check := getattr(function, COUNT, None):
        check(counts, **dict(arguments))
