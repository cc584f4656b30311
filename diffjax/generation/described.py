"""Guidance and network passes in a few words, for the line that announces a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffjax.samplers.plan import Plan, Sampling


def shown(guidance: Any, weights: str = "") -> str:
    """Describe a guidance in a few words: `2`, or `2, rule apg, threshold dynamic`.

    weights: text in place of its weight.
    """
    guidance = guidance if isinstance(guidance, Mapping) else {"weight": guidance}
    name = lambda entry: entry["name"] if isinstance(entry, Mapping) else entry
    weight = guidance.get("weight", 1.0)
    weights = weights or (f"{weight:g}" if isinstance(weight, int | float) else str(weight))
    more = [f"{k} {name(v)}" for k, v in guidance.items() if k != "weight" and v is not None]
    return ", ".join([weights, *more])


def counted(plan: Sampling) -> str:
    """Describe the passes of a sample: `6 network passes`, or `6 to 12 network passes`."""
    each = plan.passes_of_each if isinstance(plan, Plan) else np.array([plan.passes or 0])
    low, high = int(each.min()), int(each.max())
    return f"{low if low == high else f'{low} to {high}'} network passes"
