"""Labels of augmentation (arXiv:2206.00364, app. F.2): floats (size,), 0 for no augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from diffjax.nets.conditions.base import Vector, absent, place, present


@dataclass(frozen=True)
class Augment:
    """Labels of augmentation (B, size), embedded by one layer without a bias; 0 where missing.

    >>> Augment(9).shape((4, 32, 32, 3))
    (4, 9)
    """

    size: int
    name: str = "augment"
    mechanism: str = ""
    mechanisms: ClassVar[tuple[str, ...]] = ("features",)
    droppable: ClassVar[bool] = False

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        return (x[0], self.size)

    def missing(self, x: Float[Array, "b *d"]) -> Float[Array, "b n"]:
        return absent(x.shape[0], self.size)

    def embed(
        self, value: Float[Array, "b n"], width: int, dtype: Any, rows: Initializer
    ) -> Vector:
        known, _ = present(value, dtype)
        return nn.Dense(width, use_bias=False, name=place(self))(known)
