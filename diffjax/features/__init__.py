"""Feature networks and distances by which metrics compare items, and a classifier to judge them."""

from diffjax.features.extractors import EXTRACTORS, Extractor, extract, features
from diffjax.features.judge import Judge, fit
from diffjax.features.lpips import DISTANCES, Distance

__all__ = [
    "DISTANCES",
    "EXTRACTORS",
    "Distance",
    "Extractor",
    "Judge",
    "extract",
    "features",
    "fit",
]
