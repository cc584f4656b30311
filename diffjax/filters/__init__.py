"""Filters: what becomes of unwanted images and prompts; nothing is filtered unless asked.

>>> dark = Filter("dark", lambda x: 1 - x.mean((1, 2, 3)) / 255, threshold=0.5)
>>> import numpy as np
>>> filtered([dark], np.zeros((3, 4, 4, 1), np.uint8)).stopped.sum()
np.int64(3)
"""

from diffjax.arrays import catalogue
from diffjax.filters.base import Filter, Filtered, check_images, filtered
from diffjax.filters.clip_concepts import clip_concepts
from diffjax.filters.onnx import onnx
from diffjax.filters.opennsfw import opennsfw
from diffjax.filters.words import words

FILTERS = catalogue(onnx, opennsfw, clip_concepts, words)

__all__ = [
    "FILTERS",
    "Filter",
    "Filtered",
    "check_images",
    "clip_concepts",
    "filtered",
    "onnx",
    "opennsfw",
    "words",
]
