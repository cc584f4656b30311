"""What a metric reads and writes by name, tried before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Metric = TypeVar("Metric", bound=Callable[..., Any])
CHECK = "check_beforehand"


def checked(check: Callable[..., Any]) -> Callable[[Metric], Metric]:
    """Give a metric a check of its settings, which takes those that it names as keywords."""

    def mark(metric: Metric) -> Metric:
        setattr(metric, CHECK, check)
        return metric

    return mark


def beforehand(metric: Any) -> None:
    """Check the settings of a metric, which may be a function with some of its arguments.

    Raises ValueError in one line for a file that cannot be read or written, or holds another thing.
    """
    function, arguments = getattr(metric, "function", metric), getattr(metric, "arguments", ())
    if check := getattr(function, CHECK, None):
        check(**dict(arguments))
