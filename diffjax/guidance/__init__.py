"""Guidance: references for the conditional prediction, and rules that combine the two.

The weight w is defined by

    x0 = ref + w (cond - ref)

so w = 1 is the conditional model, w = 0 the reference, and w > 1 guides. Papers that write
(1 + omega) cond - omega ref, or cond + omega (cond - ref), have omega = w - 1. Here w is used for
all methods. Three choices combine freely:

- the reference (`REFERENCES`): no condition, another condition, another network ...
- the rule (`RULES`): linear, as above, or one of its corrections;
- a threshold on x0 (`THRESHOLDS`), with guidance or without.

`Guided(reference, rule)`, `Thresholded(inside, threshold)` and `Classifier` are guidances. Each
uses predictions only, so it is valid for every process and parameterization. They are pytrees:
networks in them are traced, settings are static. No sample depends on the others of its batch.
"""

from diffjax.arrays import catalogue
from diffjax.guidance.base import Conditional, Distilled, Guidance, Guided, Thresholded
from diffjax.guidance.classifier import Classifier
from diffjax.guidance.denoiser import GuidedDenoiser
from diffjax.guidance.inpainted import Inpainted
from diffjax.guidance.query import Draws, Normals, Pair, Query
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
    "Distilled",
    "Draws",
    "Dynamic",
    "Guidance",
    "Guided",
    "GuidedDenoiser",
    "Inpainted",
    "Linear",
    "Negative",
    "Normals",
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
