"""What a published file holds, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffjax.arrays import Params


class Contents(NamedTuple):
    """Tensors by their published names; settings: what the file says of itself, {} where nothing.

    Values of `tensors` may be read only when asked for.
    """

    tensors: Mapping[str, np.ndarray]
    settings: dict[str, Any]


class Converted(NamedTuple):
    """The sections of a config, the form of the data, and the parameters of the network.

    config: sde, parameterization, network, sampling, and others where the defaults do not fit.
    shape: of one item (H, W, C). classes: number of labels, or 0. params: nested dict of arrays.
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    params: Params
