"""Cards of videos: frames that say something about a clip, and what clips and cards exchange."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.nets.blocks import PLAIN, Grid, Style, conv
from diffjax.nets.layers import Dense, zeros


class Marks(nn.Module):
    """The embeddings of frames with a learned vector added to those of cards, 0 at first.

    The input (B T, W) has the frames of a video one after the other, and `cards` last.
    """

    frames: int
    cards: int

    @nn.compact
    def __call__(self, emb: Float[Array, "n w"]) -> Float[Array, "n w"]:
        table = self.param("vectors", zeros, (self.cards, emb.shape[-1]))
        each = jnp.pad(table, ((self.frames - self.cards, 0), (0, 0))).astype(emb.dtype)
        return emb + jnp.tile(each, (len(emb) // self.frames, 1))


class ToClip(nn.Module):
    """The embeddings (B T, W) of frames, where those of a clip also have what its cards show.

    A convolution of each card, with the embedding of its noise label, is averaged over its places,
    and the sum over the cards of a layer of the average, 0 at first, is added to the embedding of
    each frame of the clip, as that of a label would be. So the cards reach all layers of the
    clip's frames, and a card of any size is read.

    x: the frames (B T, H, W, C) of videos, one video after the other, with `cards` last.
    """

    frames: int
    cards: int

    @nn.compact
    def __call__(self, x: Grid, emb: Float[Array, "n w"]) -> Float[Array, "n w"]:
        width, videos = emb.shape[-1], len(x) // self.frames
        each = lambda a: a.reshape(videos, self.frames, *a.shape[1:])
        card, level = (each(a)[:, -self.cards :].reshape(-1, *a.shape[1:]) for a in (x, emb))
        h = conv(card, width) + Dense(width)(level)[:, None, None]
        h = nn.silu(Dense(width)(nn.silu(h).mean((1, 2))))
        h = Dense(width, kernel_init=zeros, name="out")(h).reshape(videos, self.cards, width)
        to_each = jnp.repeat(h.sum(1, keepdims=True), self.frames, 1)
        return emb + to_each.at[:, -self.cards :].set(0).reshape(emb.shape)


class ToCards(nn.Module):
    """The features (B T, H, W, C) of frames, where cards also have what their clip shows.

    Layers of the features at each place, averaged over the places and frames of the clip, become a
    vector that is added to each place of the cards, 0 at first.
    """

    frames: int
    cards: int
    width: int
    style: Style = PLAIN

    @nn.compact
    def __call__(self, x: Grid) -> Grid:
        each = x.reshape(-1, self.frames, *x.shape[1:])
        clip = self.style.norm()(x).reshape(each.shape)[:, : -self.cards]
        h = nn.silu(Dense(self.width)(nn.silu(clip))).mean((1, 2, 3))
        h = nn.silu(Dense(self.width)(h))
        h = Dense(x.shape[-1], kernel_init=zeros, name="out")(h)[:, None, None, None]
        return each.at[:, -self.cards :].add(h).reshape(x.shape)
