"""The cases of a claim that run by default; the others run in the thorough tier."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def some(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """Return the cases as pytest parameters, of which all but the kept ones are thorough.

    cases: names, or tuples of several arguments, which `kept` holds as they are.
    """
    marks = lambda case: () if case in kept else pytest.mark.thorough
    each = lambda case: case if isinstance(case, tuple) else (case,)
    return [pytest.param(*each(case), marks=marks(case)) for case in cases]
