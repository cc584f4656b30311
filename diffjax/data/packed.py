"""Packing: values of several kinds as one vector (B, D), and back, by a static layout.

Networks unpack; schedules, losses and samplers see vectors. Categorical parts are one-hot vectors
times a scale, which is 0.25 for the types of atoms in arXiv:2203.17003: with coordinates of
unit variance they are then decided later, at lower noise. They are decoded by the largest value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import checks
from diffjax.spaces import PLAIN, Product, Space


@dataclass(frozen=True)
class Part:
    """One part of a packed vector.

    shape: that of an item. classes: the number of classes of a categorical part, whose values are
    integers in [0, classes); 0 for floats. scale: the factor on the stored values, > 0. space: the
    subspace in which a part of floats lies. Raises ValueError where they do not fit together.

    >>> Part("h", (5,), classes=3, scale=0.25).packed
    (5, 3)
    """

    name: str
    shape: tuple[int, ...]
    classes: int = 0
    scale: float = 1.0
    space: Space = PLAIN

    def __post_init__(self):
        checks.positive(**{f"{self.name}.scale": self.scale})
        checks.whole(0, **{f"{self.name}.classes": self.classes})
        if self.classes and self.space != PLAIN:
            raise ValueError(f"{self.name}: classes have no space of their own; allowed: plain")
        self.space.check(self.packed)

    @property
    def packed(self) -> tuple[int, ...]:
        """The shape of the part as floats."""
        return (*self.shape, self.classes) if self.classes else self.shape

    def encode(self, value: Any) -> Any:
        """Return values (B, *shape) as floats (B, size); raise ValueError for any other values."""
        if np.shape(value)[1:] != self.shape:
            raise ValueError(f"{self.name}: has the shape {np.shape(value)}; needs {self.shape}")
        if self.classes:
            if (
                not checks.traced(value)
                and not ((np.asarray(value) >= 0) & (np.asarray(value) < self.classes)).all()
            ):
                raise ValueError(f"{self.name}: needs integers from 0 to {self.classes - 1}")
            value = jax.nn.one_hot(value, self.classes)
        return (self.scale * jnp.asarray(value, float)).reshape(len(value), -1)

    def decode(self, value: Any) -> Any:
        """Return floats (B, size) as values (B, *shape), the classes with the largest value."""
        value = value.reshape(len(value), *self.packed)
        return value.argmax(-1) if self.classes else value / self.scale


@dataclass(frozen=True)
class Layout:
    """The parts of a packed vector (D,), in order; static, so a network may hold it.

    Raises ValueError for two parts of one name.

    >>> layout = Layout((Part("x", (2, 1)), Part("h", (2,), classes=3, scale=0.25)))
    >>> packed = layout.pack({"x": np.ones((1, 2, 1)), "h": np.array([[2, 0]])})
    >>> packed.tolist()
    [[1.0, 1.0, 0.0, 0.0, 0.25, 0.25, 0.0, 0.0]]
    >>> layout.unpack(packed)["h"].tolist()
    [[2, 0]]
    """

    parts: tuple[Part, ...]

    def __post_init__(self):
        names = [part.name for part in self.parts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]}: two parts have this name")

    @property
    def sizes(self) -> list[int]:
        """The number of values of each part."""
        return [math.prod(part.packed) for part in self.parts]

    @property
    def size(self) -> int:
        """The number D of values of a vector."""
        return sum(self.sizes)

    @property
    def space(self) -> Product:
        """The product of the spaces of the parts."""
        return Product(tuple(p.packed for p in self.parts), tuple(p.space for p in self.parts))

    def pack(self, values: Mapping[str, Any]) -> Any:
        """Return values by name, (B, *shape) each, as vectors (B, D).

        Raises ValueError for missing or unknown names, other shapes, and classes out of range.
        """
        names = [part.name for part in self.parts]
        if set(values) != set(names):
            raise ValueError(f"pack: has {', '.join(values)}; needs {', '.join(names)}")
        return jnp.concatenate([part.encode(values[part.name]) for part in self.parts], 1)

    def unpack(self, x: Any) -> dict[str, Any]:
        """Return the values (B, *shape) of vectors (B, D) by name; `pack` is the inverse.

        Raises ValueError for vectors of another size.
        """
        if x.shape[1:] != (self.size,):
            raise ValueError(f"unpack: has the shape {x.shape}; needs (B, {self.size})")
        pieces = jnp.split(jnp.asarray(x), np.cumsum(self.sizes)[:-1].tolist(), 1)
        return {p.name: p.decode(piece) for p, piece in zip(self.parts, pieces, strict=True)}
