"""Packing: values of several kinds side by side in the last axis of one item, and back.

Networks and files unpack; schedules, losses and samplers see one array. Categorical parts are
one-hot vectors times a scale, which is 0.25 for the types of atoms in arXiv:2203.17003: with
coordinates of unit variance they are then decided later, at lower noise. They are decoded by the
largest value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax import checks
from diffjax.spaces import PLAIN, Product, Space


@dataclass(frozen=True)
class Part:
    """One part of the last axis of an item.

    width: the number of its values: numbers, or the classes of one integer in [0, width) where
    `classes` is True. scale: the factor on the stored values, > 0. space: the subspace in which the
    part lies. Raises ValueError for settings out of range.

    >>> Part("h", 3, classes=True, scale=0.25).encode(np.array([[2, 0]])).tolist()
    [[[0.0, 0.0, 0.25], [0.25, 0.0, 0.0]]]
    """

    name: str
    width: int
    classes: bool = False
    scale: float = 1.0
    space: Space = PLAIN

    def __post_init__(self):
        checks.positive(**{f"{self.name}.scale": self.scale})
        checks.whole(1, **{f"{self.name}.width": self.width})

    def encode(self, value: Any) -> np.ndarray:
        """Return numbers (..., width), or integers (...), as floats (..., width).

        Raises ValueError for any other values.
        """
        value = np.asarray(value)
        if not self.classes:
            if value.shape[-1:] != (self.width,):
                needs = f"(..., {self.width})"
                raise ValueError(f"{self.name}: has the shape {value.shape}; needs {needs}")
            return self.scale * value
        if (
            not np.issubdtype(value.dtype, np.integer)
            or ((value < 0) | (value >= self.width)).any()
        ):
            raise ValueError(f"{self.name}: needs integers from 0 to {self.width - 1}")
        return self.scale * np.eye(self.width)[value]

    def decode(self, value: Any) -> Any:
        """Return floats (..., width) as numbers (..., width), or as the classes (...)."""
        return value.argmax(-1) if self.classes else value / self.scale


@dataclass(frozen=True)
class Layout:
    """The parts of the last axis of an item (..., C), in order; static, so a network may hold it.

    Raises ValueError for two parts of one name.

    >>> layout = Layout((Part("x", 1), Part("h", 3, classes=True, scale=0.25)))
    >>> packed = layout.pack({"x": np.array([[[5.0], [7.0]]]), "h": np.array([[2, 0]])})
    >>> packed.tolist()
    [[[5.0, 0.0, 0.0, 0.25], [7.0, 0.25, 0.0, 0.0]]]
    >>> layout.unpack(packed)["h"].tolist()
    [[2, 0]]
    """

    parts: tuple[Part, ...]

    def __post_init__(self):
        names = [part.name for part in self.parts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]}: two parts have this name")

    @property
    def width(self) -> int:
        """The number C of values of the last axis."""
        return sum(part.width for part in self.parts)

    @property
    def space(self) -> Product:
        """The product of the spaces of the parts."""
        return Product(tuple(p.width for p in self.parts), tuple(p.space for p in self.parts))

    def pack(self, values: Mapping[str, Any]) -> np.ndarray:
        """Return values by name, (..., width) or integers (...), as float32 items (..., C).

        Raises ValueError for missing or unknown names, other shapes, and classes out of range.
        """
        names = [part.name for part in self.parts]
        if set(values) != set(names):
            raise ValueError(f"pack: has {', '.join(values)}; needs {', '.join(names)}")
        encoded = [part.encode(values[part.name]) for part in self.parts]
        return np.concatenate(encoded, -1).astype(np.float32)

    def unpack(self, x: Any) -> dict[str, Any]:
        """Return the values of items (..., C) by name; `pack` is the inverse.

        Raises ValueError for items of another width.
        """
        if x.shape[-1:] != (self.width,):
            raise ValueError(f"unpack: has the shape {x.shape}; needs (..., {self.width})")
        ends = np.cumsum([part.width for part in self.parts]).tolist()
        parts = zip(self.parts, ends, strict=True)
        return {part.name: part.decode(x[..., end - part.width : end]) for part, end in parts}
