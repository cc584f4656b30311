"""The protocol of conditions, and functions that their kinds share."""

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
    "pairs": "features of the pairs of points, beside their distance",
    "time": "a second time, by its difference from the noise label",
    "apart": "a mask that keeps the frames of a video apart",
}
"""The mechanisms by which a condition may enter a network."""

Vector = Float[Array, "b w"]
Sequence = tuple[Float[Array, "b m w"], Bool[Array, "b m"]]
"""Tokens, and the mask of those that are present."""


@runtime_checkable
class Condition(Protocol):
    """A kind of condition: a frozen dataclass with the fields `size`, `name` and `mechanism`.

    size: number of classes, width or channels, as in `Spec`. name: the key in `cond`. mechanism:
    one of `mechanisms`, or "" for the first of these that the network supports. droppable: whether
    `condition_dropout` may drop the condition. The methods `embed`, `unit`, `sequence`, `beside`,
    `pairs`, `apart` and `features` belong to the mechanisms (see the protocols below); a kind has
    those that its mechanisms need. They are called inside a Flax module, which owns the layers that
    they create: name these layers by `place`.

    `docs/howto/add_network.md` has a worked example.
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
        """Return the value's shape for inputs of shape x (B, *D, C); None allows any length."""
        ...

    def missing(self, x: Float[Array, "b *d"]) -> Array:
        """Return the value where no sample has the condition; all values have its type."""
        ...


class Embeds(Protocol):
    """Conditions with the mechanism `embedding` or `features`."""

    def embed(self, value: Any, width: int, dtype: Any, rows: Initializer) -> Vector:
        """Return the value as a vector (B, width), the null vector where it is missing.

        rows: initializer for tables of learned vectors.
        """
        ...


class Unit(Protocol):
    """Conditions with the mechanism `unit`."""

    def unit(self, value: Any, dtype: Any) -> Vector:
        """Return the value as a vector of unit magnitude, zero where it is missing."""
        ...


class Attended(Protocol):
    """Conditions with the mechanism `joint` or `cross`."""

    def sequence(self, value: Any, width: int, dtype: Any) -> Sequence:
        """Return the value as tokens (B, M, width), M >= 1, and the mask of those present."""
        ...


class Beside(Protocol):
    """Conditions with the mechanism `beside`."""

    def beside(self, value: Any, dtype: Any) -> Float[Array, "b *d c"]:
        """Return channels on the grid of the input, or (B, L, c) for all places of a position."""
        ...


class Paired(Protocol):
    """Conditions with the mechanism `pairs`."""

    def pairs(self, value: Any, dtype: Any) -> Float[Array, "b n n f"]:
        """Return the value as features of the pairs of points of the input."""
        ...


class Apart(Protocol):
    """Conditions with the mechanism `apart`."""

    def apart(self, value: Any) -> Bool[Array, " b"]:
        """Return which items have frames that no attention over time joins."""
        ...


Features = Callable[[Float[Array, " b"]], Vector]
"""Features of a noise label (B,): sines and cosines (B, n)."""


class Leads(Embeds, Protocol):
    """Conditions with the mechanism `time`."""

    def features(self, features: Features, c_noise: Float[Array, " b"], value: Any) -> Vector:
        """Return the features of the second time minus those of the noise label, 0 if missing."""
        ...


def kind(condition: Condition) -> str:
    """Return the name of the condition's class in the catalogue.

    >>> from diffjax.nets.conditions import Label, Tokens
    >>> kind(Label(10)), kind(Tokens(768, "caption"))
    ('label', 'tokens')
    """
    return next(iter(catalogue(type(condition))))


def spec(condition: Condition) -> Spec:
    """Return the name, kind and size of the condition.

    >>> from diffjax.nets.conditions import Tokens
    >>> spec(Tokens(768, "caption"))
    Spec(name='caption', kind='tokens', size=768)
    """
    return Spec(condition.name, kind(condition), condition.size)


def place(condition: Condition) -> str:
    """Return the name of the parameters: `tokens`, or `tokens_caption` for tokens named caption.

    >>> from diffjax.nets.conditions import Label, Tokens
    >>> place(Label(10)), place(Tokens(768, "caption"))
    ('label', 'tokens_caption')
    """
    of_kind = kind(condition)
    return of_kind if condition.name == of_kind else f"{of_kind}_{condition.name}"


def absent(*shape: int) -> Array:
    """Return the floats, all NaN, that stand for a missing condition.

    >>> absent(1, 2).tolist()
    [[nan, nan]]
    """
    return jnp.full(shape, jnp.nan)


def present(value: Float[Array, "..."], dtype: Any) -> tuple[Array, Array]:
    """Return the values with 0 in place of missing ones, and the mask of those present.

    >>> values, there = present(jnp.array([0.5, jnp.nan]), float)
    >>> values.tolist(), there.tolist()
    ([0.5, 0.0], [True, False])
    """
    there = ~jnp.isnan(value)
    return jnp.where(there, value, 0).astype(dtype), there


def learned(name: str, samples: int, width: int) -> Vector:
    """Return one learned vector, repeated for all samples, (B, width)."""
    return nn.Embed(1, width, name=name)(jnp.zeros(samples, jnp.int32))


def after_null(
    name: str, tokens: Float[Array, "b n w"], there: Bool[Array, "b n"], *, null: bool
) -> Sequence:
    """Return tokens and their mask after one more token, which stands for no tokens.

    It is learned and always present, or zero and never present where `null` is False. name: the
    `place` of the condition. The function is called inside a module.

    >>> _, there = after_null("words", jnp.ones((1, 2, 4)), jnp.ones((1, 2), bool), null=False)
    >>> there.tolist()
    [[False, True, True]]
    """
    first = jnp.zeros_like(tokens, shape=(tokens.shape[0], tokens.shape[-1]))
    if null:
        first = learned(f"no_{name}", tokens.shape[0], tokens.shape[-1])
    there = jnp.concatenate([jnp.full((tokens.shape[0], 1), null), there], 1)
    return jnp.concatenate([first[:, None], tokens], 1), there
