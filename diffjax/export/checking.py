"""The check of an export: what is written is run, and compared with the network that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffjax.config import RunError


class Difference(NamedTuple):
    """The largest difference of an output, and the largest size of its values."""

    largest: float
    scale: float

    def __str__(self) -> str:
        return f"{self.largest:.1e} at values up to {self.scale:.3g}"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Difference]:
    """Return the differences of outputs by name.

    >>> differences({"x": np.array([1.0, 2.0])}, {"x": np.array([1.0, 2.5])})["x"].largest
    0.5
    """
    size = lambda a: float(np.max(np.abs(np.asarray(a, np.float64)), initial=0))
    return {k: Difference(size(np.asarray(theirs[k]) - a), size(a)) for k, a in ours.items()}


def check(found: Mapping[str, Difference], bound: float, place: str) -> None:
    """Raise RunError for differences above `bound` times the size of the values, and for NaN.

    >>> check({"x": Difference(0.5, 2.0)}, 1e-5, "out")
    Traceback (most recent call last):
    diffjax.config.errors.RunError: out: ...
    """
    for name, each in found.items():
        if not each.largest <= bound * max(each.scale, 1):
            raise RunError(
                f"{place}: {name} differs from the network by {each}; allowed: {bound:g} of them. "
                f"The export is not to be used"
            )
