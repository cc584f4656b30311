"""What a published file holds, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    notes: what differs from the original's own way to sample, a line each.
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    params: Params
    notes: tuple[str, ...] = ()


class Family(NamedTuple):
    """The networks of one code base.

    convert: `(contents, **settings) -> Converted`; settings are what the contents do not say.
    ValueError names what our networks cannot be. recognises: whether the contents are of this
    family, from names of tensors and from settings.
    """

    convert: Callable[..., Converted]
    recognises: Callable[[Contents], bool]
