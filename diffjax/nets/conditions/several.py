"""The conditions of a network, taken together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax.linen.linear import default_embed_init
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float

from diffjax import checks
from diffjax.arrays import Cond
from diffjax.nets.conditions.base import (
    Attended,
    Beside,
    Condition,
    Embeds,
    Features,
    Leads,
    Paired,
    Sequence,
    Unit,
    Vector,
    kind,
    place,
    spec,
)
from diffjax.nets.conditions.length import Length


@dataclass(frozen=True)
class Conditions:
    """The conditions that a network is built for, each with the mechanism by which it enters.

    `cond` is a dict of arrays by name. A condition absent from the dict is missing for all samples;
    it is missing for one sample where its value is -1 (integers) or NaN (floats). Each condition
    has a null value, so training with dropped conditions gives the reference of classifier-free
    guidance (arXiv:2207.12598). `settled` chooses mechanisms. Raises ValueError for a size below 1,
    a name that is not a word, a mechanism that the kind does not have, or two conditions with one
    name.

    >>> from diffjax.nets.conditions import Label, Tokens
    >>> print(settled((Label(10), Tokens(768, "caption")), "unet", ("embedding", "cross")))
    label (label of size 10), caption (tokens of size 768)
    """

    entries: tuple[Condition, ...] = ()

    def __post_init__(self):
        for entry in self.entries:
            spec(entry)  # refuses sizes below 1
            if not entry.name.isidentifier():
                raise ValueError(f"condition {entry.name!r}: needs an identifier as a name")
            if entry.mechanism not in entry.mechanisms:
                raise ValueError(
                    f"condition {entry.name!r} of kind {kind(entry)}: "
                    f"mechanism={entry.mechanism!r}: unknown; known: {', '.join(entry.mechanisms)}"
                )
        for names in ([e.name for e in self.entries], [place(e) for e in self.entries]):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"condition {twice[0]!r}: two conditions have this name")

    def __str__(self) -> str:
        known = (f"{e.name} ({kind(e)} of size {e.size})" for e in self.entries)
        return ", ".join(known) or "none"

    def by(self, *mechanisms: str) -> list[Any]:
        """Return the conditions that enter by one of the mechanisms."""
        return [e for e in self.entries if e.mechanism in mechanisms]

    def check(self, x: Float[Array, "b *d"], cond: Cond | None) -> Cond:
        """Return `cond`, or {} for None; raise ValueError for an input of another form.

        Integers are classes: they lie in [0, size), or are -1. Traced values are not checked.
        """
        cond, entries = cond or {}, {e.name: e for e in self.entries}
        if unknown := set(cond) - set(entries):
            raise ValueError(
                f"condition {sorted(unknown)}: the network takes {sorted(entries)}: {self}"
            )
        for name, value in cond.items():
            entry, shape = entries[name], entries[name].shape(x.shape)
            same = [n in (None, m) for n, m in zip(shape, value.shape, strict=False)]
            if len(shape) != value.ndim or not all(same):
                has = f"cond[{name!r}] has the shape {value.shape}"
                raise ValueError(f"{has}; needs {shape}; the network takes {self}")
            wanted = jnp.issubdtype(jax.eval_shape(entry.missing, x).dtype, jnp.integer)
            if wanted != jnp.issubdtype(value.dtype, jnp.integer):
                needs = "integers" if wanted else "floats"
                has = f"cond[{name!r}] has the type {value.dtype}"
                raise ValueError(f"{has}; needs {needs}; the network takes {self}")
            if isinstance(entry, Length):
                checks.lengths(value, entry.size, f"cond[{name!r}]")
            elif wanted:
                checks.labels(value, entry.size, f"cond[{name!r}]")
        return cond

    def embedded(
        self,
        mechanism: str,
        x: Float[Array, "b *d"],
        cond: Cond,
        width: int,
        rows: Initializer = default_embed_init,
    ) -> Vector:
        """Return the sum (B, width) of the conditions that enter by `mechanism` as vectors.

        It is 0 where there are none. The method is called inside a module.

        rows: initializer for tables of learned vectors.
        """
        total = jnp.zeros((x.shape[0], width), x.dtype)
        for entry in self.by(mechanism):
            embed = cast(Embeds, entry).embed
            total = total + embed(_value(entry, x, cond), width, x.dtype, rows)
        return total

    def units(self, x: Float[Array, "b *d"], cond: Cond) -> dict[str, Vector]:
        """Return the conditions as vectors of unit magnitude, by the name of their layer."""
        unit = lambda entry: cast(Unit, entry).unit(_value(entry, x, cond), x.dtype)
        return {place(entry): unit(entry) for entry in self.by("unit")}

    def sequence(
        self, mechanism: str, x: Float[Array, "b *d"], cond: Cond, width: int
    ) -> Sequence | None:
        """Return all tokens that enter by `mechanism`, concatenated, or None if there are none.

        The method is called inside a module. Raises ValueError for tokens of different widths.
        """
        parts = [
            cast(Attended, entry).sequence(_value(entry, x, cond), width, x.dtype)
            for entry in self.by(mechanism)
        ]
        widths = [tokens.shape[-1] for tokens, _ in parts]
        if len(set(widths)) > 1:
            names = [entry.name for entry in self.by(mechanism)]
            raise ValueError(
                f"tokens {names} have the widths {widths}; need one width, or layers >= 1"
            )
        if len(parts) < 2:
            return parts[0] if parts else None
        tokens, there = zip(*parts, strict=True)
        return jnp.concatenate(tokens, 1), jnp.concatenate(there, 1)

    def beside(self, x: Float[Array, "b *d c"], cond: Cond) -> Float[Array, "b *d e"]:
        """Return x with the channels of conditions appended, and 0 beyond the length of an item."""
        maps = [
            _on_grid(cast(Beside, entry).beside(_value(entry, x, cond), x.dtype), x.shape)
            for entry in self.by("beside")
        ]
        for entry in self._lengths:
            x = entry.cut(x, _value(entry, x, cond))
        return jnp.concatenate([x, *maps], -1) if maps else x

    def inside(self, x: Float[Array, "b *d"], cond: Cond) -> Bool[Array, "b l"] | None:
        """Return the mask of positions inside their item, or None where items have no lengths."""
        inside = None
        for entry in self._lengths:
            belongs = entry.inside(_value(entry, x, cond), 2)
            inside = belongs if inside is None else inside & belongs
        return inside

    def pairs(self, x: Float[Array, "b n c"], cond: Cond) -> Float[Array, "b n n f"] | None:
        """Return the features of pairs of points that conditions state, or None without any."""
        parts = [
            cast(Paired, entry).pairs(_value(entry, x, cond), x.dtype) for entry in self.by("pairs")
        ]
        return jnp.concatenate(parts, -1) if parts else None

    def apart(self, x: Float[Array, "b *d"], cond: Cond) -> Bool[Array, " b"] | None:
        """Return which items have frames that no attention over time joins, or None for none."""
        masks = [entry.apart(_value(entry, x, cond)) for entry in self.by("apart")]
        return functools.reduce(jnp.logical_or, masks) if masks else None

    @property
    def _lengths(self) -> list[Length]:
        return [entry for entry in self.entries if isinstance(entry, Length)]

    def change(
        self, features: Features, c_noise: Float[Array, " b"], cond: Cond, initialising: bool
    ) -> Vector | None:
        """Return the change of the features due to a second time, or None if there is none.

        Without a value for the second time, the program is that of a network without one; only the
        initialisation needs the layers.
        """
        for entry in self.by("time"):
            if entry.name in cond or initialising:
                value = cond.get(entry.name, jnp.full_like(c_noise, jnp.nan))
                return cast(Leads, entry).features(features, c_noise, value)
        return None

    def lead(self, change: Float[Array, "b f"], width: int, dtype: Any) -> Vector:
        """Return the vector that a second time adds to the noise embedding, inside a module."""
        (entry,) = self.by("time")
        return cast(Leads, entry).embed(change, width, dtype, default_embed_init)


def settled(conditions: Iterable[Condition], network: str, takes: tuple[str, ...]) -> Conditions:
    """Choose the mechanism of each condition of a network that supports the mechanisms `takes`.

    Raises ValueError for a condition that has none of these mechanisms.

    >>> from diffjax.nets.conditions import Label
    >>> [entry.mechanism for entry in settled([Label(10)], "mlp", ("embedding",)).entries]
    ['embedding']
    >>> settled([Label(10)], "mlp", ("cross",))
    Traceback (most recent call last):
    ValueError: condition 'label' of kind label: ...
    """
    entries = []
    for entry in conditions:
        wanted = [entry.mechanism] if entry.mechanism else entry.mechanisms
        possible = [m for m in wanted if m in takes]
        if not possible and set(wanted) <= set(entry.mechanisms):
            raise ValueError(
                f"condition {entry.name!r} of kind {kind(entry)}: enters by "
                f"{' or '.join(wanted)}, but {network} takes {', '.join(takes)}"
            )
        mechanism = possible[0] if possible else entry.mechanism  # an unknown one is refused below
        entries.append(dataclasses.replace(cast(Any, entry), mechanism=mechanism))
    return Conditions(tuple(entries))


def _value(entry: Condition, x: Float[Array, "b *d"], cond: Cond) -> Array:
    return cond[entry.name] if entry.name in cond else entry.missing(x)


def _on_grid(channels: Float[Array, "b *d c"], shape: tuple[int, ...]) -> Float[Array, "b *d c"]:
    """Return channels on the grid of inputs of a shape; those of positions hold at all places."""
    (b, length, *_), c = shape, channels.shape[-1]
    if channels.ndim == len(shape):
        return channels
    return jnp.broadcast_to(
        channels.reshape(b, length, *[1] * (len(shape) - 3), c), (*shape[:-1], c)
    )
