"""Videos as frames of a network of images, and attention over time between the frames."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.nets.blocks import PLAIN, Grid, Style
from diffjax.nets.conditions import Conditions
from diffjax.nets.factorised import Masks, over_time
from diffjax.nets.layers import Dense, zeros
from diffjax.nets.positions import rotate, rotations


def as_images(
    x: Float[Array, "b t h w c"],
    c_noise: Float[Array, "b ..."],
    cond: Cond,
    conditions: Conditions,
) -> tuple[Float[Array, "n h w c"], Float[Array, " n"], Cond]:
    """Return the frames of videos as B T images, each with the time and conditions of its video.

    c_noise: (B,), or (B, T) for a time per frame. Conditions beside x, and those that mark videos,
    are unchanged.

    >>> from diffjax.nets.conditions import Label, settled
    >>> x, labels = jnp.zeros((2, 3, 8, 8, 1)), settled((Label(10),), "unet", ("embedding",))
    >>> images, c_noise, cond = as_images(x, jnp.ones(2), {"label": jnp.array([4, 7])}, labels)
    >>> images.shape, c_noise.shape, cond["label"].tolist()
    ((6, 8, 8, 1), (6,), [4, 4, 4, 7, 7, 7])
    """
    frames = x.shape[1]
    c_noise = jnp.repeat(c_noise, frames, 0) if c_noise.ndim == 1 else c_noise.reshape(-1)
    whole = {entry.name for entry in conditions.by("beside", "apart")}
    each = {k: v if k in whole else jnp.repeat(v, frames, 0) for k, v in cond.items()}
    return x.reshape(-1, *x.shape[2:]), c_noise, each


class TimeAttention(nn.Module):
    """Attention block over time: norm, attention at each place, zero projection, + input.

    Each position attends to those at its place in all frames of its video (arXiv:2204.03458), with
    rotary positions in time, so that any number of frames has a meaning. It begins as the identity.
    heads: their number, which divides the channels C into even parts. frames: T, of each video.

    cards: how many of the last frames are cards, no later moments of the video. All frames attend
    to those before the cards alone.

    The input (B T, *D, C) has the frames of a video one after the other. masks: see `over_time`.
    """

    heads: int
    frames: int
    style: Style = PLAIN
    cards: int = 0

    @nn.compact
    def __call__(self, x: Grid, masks: Masks) -> Grid:
        c, videos = x.shape[-1], x.shape[0] // self.frames
        width = c // self.heads
        h = self.style.norm()(x)
        qkv = Dense(3 * c, name="qkv")(h)
        qkv = qkv.reshape(videos, -1, 3, self.heads, width)
        turn = rotations((self.frames,), width)
        turn = jnp.repeat(turn, qkv.shape[1] // self.frames, 0)
        q, k = (rotate(qkv[:, :, i], turn) for i in range(2))
        if self.cards:
            there = jnp.arange(self.frames) < self.frames - self.cards
            masks = (jnp.tile(there, (videos, 1)), None)
        out = over_time(q, k, qkv[:, :, 2], self.frames, masks).reshape(x.shape)
        out = Dense(c, kernel_init=zeros, name="out")(out)
        return self.style.add(x, out)
