"""The specification of a condition, which data, networks and samplers share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """The specification of one condition of an item.

    name: its key in `cond`. kind: an entry of `nets.conditions.CONDITIONS`. `label` is an integer
    in [0, size); `vector`, floats (size,); `tokens`, floats (L, size) of any length L, NaN where a
    token is missing; `words`, integers (L,) in [0, size), -1 where a word is missing; `map`, floats
    (*D, size) on the grid of the item; `pairs`, floats (N, N, size) of the pairs of its N points;
    `length`, an unsigned integer in [1, size], the length of an item that is padded to `size`
    positions; `weight`, a float >= 0, the weight of the item in the loss, which no network
    receives. size: number of classes or words, width, channels or positions. Raises ValueError for
    a size below 1.

        >>> Spec("label", "label", 10)
        Spec(name='label', kind='label', size=10)
    """

    name: str
    kind: str
    size: int

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"condition {self.name!r}: size={self.size}: needs size >= 1")
