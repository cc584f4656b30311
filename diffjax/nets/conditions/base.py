"""The protocol of a condition, and what its kinds share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float

from diffjax.arrays import catalogue
from diffjax.specs import Spec

MECHANISMS = {
    "embedding": "a vector added to the noise embedding",
    "features": "a vector added to the features of the noise label, before their layers",
    "unit": "a vector of unit magnitude, for networks that preserve magnitudes",
    "joint": "tokens in the self-attention of the network",
    "cross": "tokens that the network attends to after its self-attention",
    "beside": "channels beside those of the input",
    "time": "a second time, by its difference from the noise label",
}
"""How a condition may enter a network."""

Vector = Float[Array, "b w"]
Sequence = tuple[Float[Array, "b m w"], Bool[Array, "b m"]]
"""Tokens, and which of them are there."""


@runtime_checkable
class Condition(Protocol):
    """A kind of condition: a frozen dataclass with the fields `size`, `name` and `mechanism`.

    size: classes, width or channels, as in `Spec`. name: in `cond`. mechanism: one of `mechanisms`,
    or "" for the first of these that the network takes. droppable: whether `condition_dropout` may
    make it missing. The methods `embed`, `unit`, `sequence`, `beside` and `features` belong to the
    mechanisms (see the protocols below); a kind has those that its mechanisms need. They are called
    inside a Flax module, which owns the layers that they make: name these by `place`.

    `docs/howto/add_network.md` works one out.
    """

    mechanisms: ClassVar[tuple[str, ...]]
    droppable: ClassVar[bool]

    @property
    def size(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def mechanism(self) -> str: ...

    def shape(self, x: tuple[int, ...]) -> tuple[int | None, ...]:
        """The shape of the value for inputs of shape x (B, *D, C); None allows any length."""
        ...

    def missing(self, x: Float[Array, "b *d"]) -> Array:
        """The value where no sample has the condition; its type is that of all values."""
        ...


class Embeds(Protocol):
    """Mechanisms `embedding` and `features`."""

    def embed(self, value: Any, width: int, dtype: Any, rows: Initializer) -> Vector:
        """The value as a vector (B, width), its null where it is missing.

        rows: initializer for tables of learned vectors.
        """
        ...


class Unit(Protocol):
    """Mechanism `unit`."""

    def unit(self, value: Any, dtype: Any) -> Vector:
        """The value as a vector of unit magnitude, zero where it is missing."""
        ...


class Attended(Protocol):
    """Mechanisms `joint` and `cross`."""

    def sequence(self, value: Any, width: int, dtype: Any) -> Sequence:
        """The value as tokens (B, M, width), M >= 1, and which of them are there."""
        ...


class Beside(Protocol):
    """Mechanism `beside`."""

    def beside(self, value: Any, dtype: Any) -> Float[Array, "b *d c"]:
        """The value as channels on the grid of the input."""
        ...


Features = Callable[[Float[Array, " b"]], Vector]
"""Of a noise label (B,): sines and cosines (B, n)."""


class Leads(Embeds, Protocol):
    """Mechanism `time`."""

    def features(self, features: Features, c_noise: Float[Array, " b"], value: Any) -> Vector:
        """The features of the second time minus those of the noise label, 0 where it is missing."""
        ...


def kind(condition: Condition) -> str:
    """The name of its class in the catalogue."""
    return next(iter(catalogue(type(condition))))


def spec(condition: Condition) -> Spec:
    """Its name, kind and size."""
    return Spec(condition.name, kind(condition), condition.size)


def place(condition: Condition) -> str:
    """The name of its parameters: `tokens`, or `tokens_caption` for tokens of another name."""
    of_kind = kind(condition)
    return of_kind if condition.name == of_kind else f"{of_kind}_{condition.name}"


def absent(*shape: int) -> Array:
    """Floats that no sample has."""
    return jnp.full(shape, jnp.nan)


def present(value: Float[Array, "..."], dtype: Any) -> tuple[Array, Array]:
    """The values with 0 for what is missing, and whether each is there."""
    there = ~jnp.isnan(value)
    return jnp.where(there, value, 0).astype(dtype), there


def learned(name: str, samples: int, width: int) -> Vector:
    """One learned vector for all samples."""
    return nn.Embed(1, width, name=name)(jnp.zeros(samples, jnp.int32))
