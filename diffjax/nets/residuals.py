"""What a network beside another one adds to its features, and where."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Grids = tuple[Array | None, ...]
"""Arrays (B, *D, C) in the order of the places in the network, None where nothing is added."""
Pairs = tuple[tuple[Array, Array], ...]
"""Keys and values (B, M, C) of further tokens."""


class Residuals(NamedTuple):
    """Arrays that are added inside a network; empty fields add nothing.

    skips: to the outputs of a U-Net's encoder where its decoder reads them: the first convolution,
    and of each level the change of resolution and the blocks (arXiv:2302.05543). middle: to the
    output of its middle. levels: to the output of the last block of each level, for the decoder and
    for the levels below (arXiv:2302.08453). moved: the same after the change of resolution into
    each level. blocks: to the output of each block of a transformer. context: for each
    cross-attention, further keys and values (B, M, C) whose attention is added to that of the
    text (arXiv:2308.06721).

    >>> one = Residuals(middle=jnp.ones(2))
    >>> (one + one + Residuals()).middle.tolist()
    [2.0, 2.0]
    """

    skips: Grids = ()
    middle: Array | None = None
    levels: Grids = ()
    moved: Grids = ()
    blocks: Grids = ()
    context: tuple[Pairs, ...] = ()

    def __add__(self, other: Any) -> Residuals:
        """Return the residuals that add what both add."""
        grids = {
            name: _summed(getattr(self, name), getattr(other, name))
            for name in ("skips", "levels", "moved", "blocks")
        }
        most = max(len(self.context), len(other.context))
        pairs = lambda each, i: each.context[i] if i < len(each.context) else ()
        context = tuple((*pairs(self, i), *pairs(other, i)) for i in range(most))
        return Residuals(middle=_sum(self.middle, other.middle), context=context, **grids)

    def times(self, scale: Float[Array, " b"]) -> Residuals:
        """Return the residuals of each sample times a number, exactly 0 for the number 0."""

        def scaled(a: Array) -> Array:
            s = scale.reshape(-1, *(1,) * (a.ndim - 1))
            return jnp.where(s == 0, 0, s * a).astype(a.dtype)

        # Attention is linear in the values, and the keys decide where it looks.
        context = tuple(tuple((k, scaled(v)) for k, v in pairs) for pairs in self.context)
        return jax.tree.map(scaled, self._replace(context=()))._replace(context=context)


def at(grids: Grids, place: int) -> Array | None:
    """Return what is added at a place, None for nothing.

    >>> at((), 3) is None
    True
    """
    return grids[place] if place < len(grids) else None


def added(x: Array, residual: Array | None) -> Array:
    """Return x with a residual, x itself for None.

    >>> added(jnp.ones(2), jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    return x if residual is None else x + residual


def _sum(a: Array | None, b: Array | None) -> Array | None:
    return b if a is None else added(a, b)


def _summed(ours: Grids, theirs: Grids) -> Grids:
    most = max(len(ours), len(theirs))
    return tuple(_sum(at(ours, i), at(theirs, i)) for i in range(most))


NOTHING = Residuals()
