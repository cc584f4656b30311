"""Guidance: what the conditional prediction is compared with, and how the two combine.

The weight w is that of

    x0 = ref + w (cond - ref)

so w = 1 is the conditional model, w = 0 the reference, and w > 1 guides. Papers that write
(1 + omega) cond - omega ref, or cond + omega (cond - ref), have omega = w - 1. All entries here use
w, for all papers. Three choices go together in any combination:

- the reference (`REFERENCES`): without condition, another condition, another network ...
- the rule (`RULES`): linear, as above, or one of its corrections;
- a threshold on x0 (`THRESHOLDS`), with guidance or without.

`Guided(reference, rule)` is a guidance, `Thresholded(guidance, threshold)` another one, and so is
`Classifier`. Each sees predictions only: it holds for every process and parameterization. They are
pytrees: networks in them are traced, settings are static. Nothing depends on the other samples of a
batch.
"""

from diffjax.arrays import catalogue
from diffjax.guidance.base import Conditional, Guidance, Guided, Thresholded
from diffjax.guidance.classifier import Classifier
from diffjax.guidance.query import Pair, Query
from diffjax.guidance.ramps import constant, cosine, linear
from diffjax.guidance.references import (
    Cached,
    Negative,
    Null,
    OtherNetwork,
    Reference,
    Several,
    negative,
)
from diffjax.guidance.rules import APG, CFGZero, Linear, Rescale, Rule
from diffjax.guidance.thresholds import Dynamic, Static, Threshold

__all__ = [
    "APG",
    "RAMPS",
    "REFERENCES",
    "RULES",
    "THRESHOLDS",
    "CFGZero",
    "Cached",
    "Classifier",
    "Conditional",
    "Dynamic",
    "Guidance",
    "Guided",
    "Linear",
    "Negative",
    "Null",
    "OtherNetwork",
    "Pair",
    "Query",
    "Reference",
    "Rescale",
    "Rule",
    "Several",
    "Static",
    "Threshold",
    "Thresholded",
]
REFERENCES = catalogue(Null, negative, Several, Cached) | {"network": OtherNetwork}
RULES = catalogue(Linear, Rescale, APG) | {"cfg_zero": CFGZero}
THRESHOLDS = catalogue(Static, Dynamic)
RAMPS = catalogue(constant, linear, cosine)
