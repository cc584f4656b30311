"""Spaces: the linear subspaces of R^D in which items, noises and predictions lie.

A space is an orthogonal projection P of items with its rank r = tr P. A row of a sampler's table is
a linear combination of states, predictions and noises. If the initial state, every noise and every
prediction lie in the subspace, so does every state, and restricted to it the process is an ordinary
diffusion in r dimensions. The loss is then a mean over r values, and densities are those of r
dimensions (arXiv:2203.17003, for centred points).

A mask (B, ...) broadcasts against items and is 1 for values that exist and 0 for padding.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.arrays import dims, within_length

Items = Float[Array, "b *d"]
Mask = Float[Array, "..."] | None
Rank = int | Float[Array, " b"]


class Space(abc.ABC):
    """A linear subspace of the items: an orthogonal projection and its rank."""

    @abc.abstractmethod
    def project(self, x: Items, mask: Mask = None) -> Items:
        """Return P x for items x (B, ...): linear, idempotent and self-adjoint."""

    @abc.abstractmethod
    def rank(self, shape: tuple[int, ...], mask: Mask = None) -> Rank:
        """Return tr P for items of this shape, without a batch; with a mask it is (B,)."""

    def check(self, shape: tuple[int, ...]) -> None:  # noqa: B027
        """Raise ValueError for items of a shape that the space does not have."""

    def mean(self, values: Items, mask: Mask = None) -> Float[Array, " b"]:
        """Return the sum of values (B, ...) of each item over the rank, (B,); 0 for a rank of 0."""
        mask = None if mask is None else jnp.broadcast_to(mask, values.shape)
        rank = jnp.asarray(self.rank(values.shape[1:], mask), values.dtype)
        counted = values if mask is None else values * mask
        return counted.sum(dims(values)) / jnp.where(rank > 0, rank, 1)


def _counts(shape: tuple[int, ...], mask: Any) -> Array:
    """Return the number of values of each item for which the mask is 1, (B,)."""
    full = jnp.broadcast_to(mask, (len(mask), *shape))
    return full.sum(dims(full))


@dataclass(frozen=True)
class Plain(Space):
    """All of R^D: nothing is projected, and no program has another operation because of it.

    Padding has noise of its own, which networks that know the `length` of an item ignore; the loss
    is a mean over the values that exist.

    >>> Plain().project(jnp.ones((1, 2))).tolist(), Plain().rank((8, 8, 1))
    ([[1.0, 1.0]], 64)
    """

    def project(self, x: Items, mask: Mask = None) -> Items:
        return x

    def rank(self, shape: tuple[int, ...], mask: Mask = None) -> Rank:
        return math.prod(shape)

    def mean(self, values: Items, mask: Mask = None) -> Float[Array, " b"]:
        """Return the mean over the values of each item, or over those where the mask is 1, (B,).

        >>> Plain().mean(jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[1.0, 1.0, 0.0]])).tolist()
        [1.5]
        """
        return values.mean(dims(values)) if mask is None else Masked().mean(values, mask)


@dataclass(frozen=True)
class Masked(Space):
    """Items whose padding is 0.

    >>> Masked().project(jnp.ones((1, 3)), jnp.array([[1.0, 1.0, 0.0]])).tolist()
    [[1.0, 1.0, 0.0]]
    """

    def project(self, x: Items, mask: Mask = None) -> Items:
        return x if mask is None else x * mask

    def rank(self, shape: tuple[int, ...], mask: Mask = None) -> Rank:
        return math.prod(shape) if mask is None else _counts(shape, mask)


@dataclass(frozen=True)
class Centred(Space):
    """Points (N, d) whose mean over the first axis of an item is 0, without padding points.

    The rank is (N - 1) d (arXiv:2203.17003), with N the points that the mask counts.

    >>> Centred().project(jnp.array([[[1.0], [3.0]]])).tolist(), Centred().rank((4, 2))
    ([[[-1.0], [1.0]]], 6)
    """

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[0] < 2:
            raise ValueError(f"space=centred: items of shape {shape}; needs (N, d) with N >= 2")

    def project(self, x: Items, mask: Mask = None) -> Items:
        if mask is None:
            return x - x.mean(1, keepdims=True)
        mask = jnp.broadcast_to(mask, x.shape)
        count = jnp.maximum(mask.sum(1, keepdims=True), 1)
        return (x - (x * mask).sum(1, keepdims=True) / count) * mask

    def rank(self, shape: tuple[int, ...], mask: Mask = None) -> Rank:
        if mask is None:
            return (shape[0] - 1) * math.prod(shape[1:])
        points = jnp.broadcast_to(mask, (len(mask), *shape)).sum(1)
        return jnp.maximum(points - 1, 0).reshape(len(points), -1).sum(1)


@dataclass(frozen=True)
class Symmetric(Space):
    """Matrices (N, N, ...) that equal their transpose, such as the bonds of a graph.

    The rank is N (N + 1) / 2 for each channel. A mask must be symmetric as well.

    >>> Symmetric().project(jnp.array([[[0.0, 2.0], [4.0, 1.0]]])).tolist()
    [[[0.0, 3.0], [3.0, 1.0]]]
    """

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[0] != shape[1]:
            raise ValueError(f"space=symmetric: items of shape {shape}; needs (N, N, ...)")

    def project(self, x: Items, mask: Mask = None) -> Items:
        even = (x + x.swapaxes(1, 2)) / 2
        return even if mask is None else even * mask

    def rank(self, shape: tuple[int, ...], mask: Mask = None) -> Rank:
        n = shape[0]
        if mask is None:
            return n * (n + 1) // 2 * math.prod(shape[2:])
        lower = jnp.tril(jnp.ones((n, n))).reshape(1, n, n, *(1,) * len(shape[2:]))
        return _counts(shape, jnp.broadcast_to(mask, (len(mask), *shape)) * lower)


@dataclass(frozen=True)
class Product(Space):
    """Parts that lie side by side along the last axis of an item, each in a space of its own.

    widths, spaces: of the parts, in order. `data.packed.Layout.space` makes one.

    >>> both = Product((1, 2), (Centred(), Plain()))
    >>> both.project(jnp.array([[[1.0, 8.0, 9.0], [3.0, 6.0, 7.0]]])).tolist(), both.rank((2, 3))
    ([[[-1.0, 8.0, 9.0], [1.0, 6.0, 7.0]]], 5)
    """

    widths: tuple[int, ...]
    spaces: tuple[Space, ...]

    def check(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[-1] != (size := sum(self.widths)):
            raise ValueError(f"space=product: items of shape {shape}; needs (..., {size})")
        for width, space in zip(self.widths, self.spaces, strict=True):
            space.check((*shape[:-1], width))

    def project(self, x: Items, mask: Mask = None) -> Items:
        parts = zip(self.spaces, self._split(x), self._masks(x.shape, mask), strict=True)
        return jnp.concatenate([space.project(part, m) for space, part, m in parts], -1)

    def rank(self, shape: tuple[int, ...], mask: Mask = None) -> Rank:
        masks = self._masks((1, *shape), mask)
        parts = zip(self.spaces, self.widths, masks, strict=True)
        return sum((space.rank((*shape[:-1], width), m) for space, width, m in parts), 0)

    def _split(self, x: Any) -> list[Any]:
        """Return the parts of x (B, ..., C), each (B, ..., width)."""
        return jnp.split(x, np.cumsum(self.widths)[:-1].tolist(), -1)

    def _masks(self, shape: tuple[int, ...], mask: Mask) -> list[Any]:
        """Return the mask of each part of items (B, ..., C); None for each without a mask."""
        if mask is None:
            return [None] * len(self.widths)
        return self._split(jnp.broadcast_to(mask, (len(mask), *shape[1:])))


PLAIN = Plain()


def space_of(denoise: Any) -> Space:
    """Return the space that a denoiser names, all of R^D where it names none.

    >>> space_of(lambda x, t: x)
    Plain()
    """
    return getattr(denoise, "space", PLAIN)


def mask_of(cond: Mapping[str, Any] | None, x: Items) -> Mask:
    """Return the mask (B, L, 1, ...) of items x (B, L, ...) with the condition `length`, or None.

    >>> mask_of({"length": jnp.array([1], jnp.uint32)}, jnp.ones((1, 3))).tolist()
    [[1.0, 0.0, 0.0]]
    """
    length = (cond or {}).get("length")
    if length is None or not jnp.issubdtype(length.dtype, jnp.unsignedinteger):
        return None
    return within_length(length, x.shape[1], x.ndim).astype(x.dtype)


def inside(denoise: Any, x: Items, cond: Mapping[str, Any] | None) -> Items:
    """Return items, noises or predictions x (B, ...) projected into the space of a denoiser.

    >>> inside(lambda x, t: x, jnp.ones((1, 2)), None).tolist()
    [[1.0, 1.0]]
    """
    return space_of(denoise).project(x, mask_of(cond, x))
