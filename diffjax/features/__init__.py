"""Feature networks: what metrics see of an item, and a classifier to judge samples with."""

from diffjax.features.extractors import EXTRACTORS, Extractor, extract, features
from diffjax.features.judge import Judge, fit

__all__ = ["EXTRACTORS", "Extractor", "Judge", "extract", "features", "fit"]
