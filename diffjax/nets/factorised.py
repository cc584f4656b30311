"""Attention of videos over space and over time in turn, at a cost linear in the frames."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from diffjax.nets.kernels.attention import attention
from diffjax.nets.positions import rotations, sincos
from diffjax.nets.streams import BlockSettings, Stream, Tokens, Vector

Heads = Float[Array, "b l h d"]
Masks = tuple[Bool[Array, "b t"] | None, Bool[Array, " b"] | None]
"""Frames inside each item, and items whose frames are stills; None for all, and for no item."""


def over_space(q: Heads, k: Heads, v: Heads, frames: int) -> Heads:
    """Return the attention of each token to those of its frame.

    q, k, v: (B, frames S, heads, d), frame by frame.

    >>> v = jnp.arange(4.0).reshape(1, 4, 1, 1)  # two frames of two tokens
    >>> over_space(0 * v, 0 * v, v, frames=2).ravel().tolist()
    [0.5, 0.5, 2.5, 2.5]
    """
    apart = lambda a: a.reshape(-1, a.shape[1] // frames, *a.shape[2:])
    return attention(*map(apart, (q, k, v))).reshape(q.shape)


def over_time(q: Heads, k: Heads, v: Heads, frames: int, masks: Masks = (None, None)) -> Heads:
    """Return the attention of each token to those at its place in all frames.

    q, k, v: as in `over_space`. The frames of a still are attended one by one: the softmax over a
    single key is 1, so the result is v.

    >>> v = jnp.arange(4.0).reshape(1, 4, 1, 1)
    >>> over_time(0 * v, 0 * v, v, frames=2).ravel().tolist()
    [1.0, 2.0, 1.0, 2.0]
    >>> over_time(0 * v, 0 * v, v, frames=2, masks=(None, jnp.array([True]))).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    b, places = q.shape[0], q.shape[1] // frames
    split = lambda a: a.reshape(b, frames, places, *a.shape[2:]).swapaxes(1, 2)
    inside, still = masks
    inside = None if inside is None else jnp.repeat(inside, places, 0)
    q_at, k_at, v_at = (split(a).reshape(b * places, frames, *a.shape[2:]) for a in (q, k, v))
    seen = attention(q_at, k_at, v_at, inside).reshape(b, places, frames, *q.shape[2:])
    seen = seen.swapaxes(1, 2).reshape(q.shape)
    return seen if still is None else jnp.where(still[:, None, None, None], v, seen)


class Pair(nn.Module):
    """A transformer block over space and one over time (arXiv:2401.03048).

    It maps the tokens (B, frames S, W) to the form that `nn.scan` needs. turns: rotations of the
    tokens in both blocks, or None.
    """

    settings: BlockSettings
    frames: int

    @nn.compact
    def __call__(self, x: Tokens, c: Vector, turns: Any, masks: Masks) -> tuple[Tokens, None]:
        for name, turn in zip(("space", "time"), turns, strict=True):
            block = Stream(self.settings, name=name)
            (q, k, v), later = block.before(x, c, turn)
            if name == "space":
                seen = over_space(q, k, v, self.frames)
            else:
                seen = over_time(q, k, v, self.frames, masks)
            x = block.after(x, seen, later)
        return x, None


def placed(
    h: Tokens,
    grid: tuple[int, ...],
    stretch: float,
    cover: tuple[int, ...],
    still: Bool[Array, " b"] | None,
) -> Tokens:
    """Return tokens (B, L, W) plus sines and cosines of their place in a frame and of that frame.

    grid: (frames, rows, columns). stretch, cover: those of `sincos`, for rows and columns. still:
    items of stills, all frames of which are the first.
    """
    width = h.shape[-1]
    place, frame = sincos(grid[1:], width, stretch, cover), sincos(grid[:1], width)
    frame = jnp.repeat(frame, len(place), 0)[None]
    if still is not None:
        frame = jnp.where(still[:, None, None], frame[:, :1], frame)
    return h + (jnp.tile(place, (grid[0], 1))[None] + frame).astype(h.dtype)


def turns(grid: tuple[int, ...], width: int) -> tuple[Array, Array]:
    """Return the angles (L, width / 2) of rows and columns, and those of frames.

    >>> space, time = turns((2, 1, 2), 4)
    >>> space[:, 0].tolist(), time[:, 0].tolist()
    ([0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0])
    """
    place, frame = rotations(grid[1:], width), rotations(grid[:1], width)
    return jnp.tile(place, (len(frame), 1)), jnp.repeat(frame, len(place), 0)
