"""The form of data: what a network must know of them."""

from __future__ import annotations

from typing import NamedTuple

from diffjax.data.pipeline import Reading
from diffjax.data.source import Source
from diffjax.specs import Spec


class Form(NamedTuple):
    """What the network must know of the data.

    shape: of one item, after cropping. classes: number of labels that it is given, or 0.
    """

    shape: tuple[int, ...]
    classes: int

    @property
    def conditions(self) -> tuple[Spec, ...]:
        """What an item carries besides itself."""
        return (Spec("label", "label", self.classes),) if self.classes else ()


def describe(source: Source, reading: Reading) -> Form:
    """The form of `source` as `reading` reads it."""
    return Form(tuple(reading.shape(source)), source.classes if reading.labels else 0)
