"""The setting `condition_dropout` of objectives, for classifier-free guidance."""

from __future__ import annotations

from collections.abc import Mapping

from diffjax import checks
from diffjax.arrays import Rates
from diffjax.config import nearest

ConditionDropout = Rates | Mapping[str, float]
"""The probability that all conditions of a sample are dropped, or probabilities by name."""


def hashable(setting: ConditionDropout) -> Rates:
    """Return the probabilities in a form with a hash: a mapping becomes pairs, sorted by name.

    Raises ValueError for a probability outside of [0, 1].

    >>> hashable({"size": 0.5, "label": 0.1})
    (('label', 0.1), ('size', 0.5))
    """
    rates = tuple(sorted(setting.items())) if isinstance(setting, Mapping) else setting
    for name, rate in rates if isinstance(rates, tuple) else [("", rates)]:
        place = f"condition_dropout{name and f'[{name!r}]'}"
        checks.finite(**{place: rate})
        if not 0 <= rate <= 1:
            raise ValueError(f"{place}={rate}: needs a rate from 0 to 1")
    return rates


def check_conditions(setting: ConditionDropout, known: tuple[str, ...] | None) -> None:
    """Raise ValueError for a name that is not in `known`, the conditions that may be dropped.

    No name is refused where they are unknown, None.
    """
    for name in () if isinstance(setting, int | float) else dict(setting):
        if known is not None and name not in known:
            raise ValueError(f"condition_dropout.{name}: no such field{nearest(name, known)}")


def drops(setting: ConditionDropout) -> bool:
    """Return True if some condition is dropped with a positive probability."""
    rates = [setting] if isinstance(setting, int | float) else dict(setting).values()
    return any(rates)
