"""What a converter of published networks is, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from diffjax.arrays import Params
from diffjax.io.contents import Contents


class Converted(NamedTuple):
    """The sections of a config, the form of the data, and the parameters of the network.

    config: sde, parameterization, network, sampling, and others where the defaults do not fit.
    shape: of one item (H, W, C). classes: number of labels, or 0. params: nested dict of arrays.
    notes: what differs from the original's own way to sample, a line each. kind: of the data, an
    entry of `data.KINDS`.
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    params: Params
    notes: tuple[str, ...] = ()
    kind: str = "image"


class Family(NamedTuple):
    """The networks of one code base.

    convert: `(contents, **settings) -> Converted`; settings are what the contents do not say.
    ValueError names what our networks cannot be. recognises: whether the contents are of this
    family, from names of tensors and from settings.
    """

    convert: Callable[..., Converted]
    recognises: Callable[[Contents], bool]
