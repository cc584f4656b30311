"""What a converter of published networks is, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from diffjax.arrays import Params
from diffjax.io.contents import Contents
from diffjax.published.names import prefixes


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
    ValueError names what our networks cannot be. marks: names of tensors that every network of this
    family has, and that no other has. recognises: whether the contents are of this family, where
    names do not tell.
    """

    convert: Callable[..., Converted]
    marks: tuple[str, ...] = ()
    recognises: Callable[[Contents], bool] | None = None

    def knows(self, contents: Contents) -> bool:
        """Whether the contents are of this family."""
        if self.recognises:
            return self.recognises(contents)
        return prefixes(contents.tensors, self.marks) != []
