"""Feature networks, in whose features metrics compare items, and a classifier to judge samples."""

from diffjax.features.extractors import EXTRACTORS, Extractor, extract, features
from diffjax.features.judge import Judge, fit

__all__ = ["EXTRACTORS", "Extractor", "Judge", "extract", "features", "fit"]
