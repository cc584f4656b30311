"""Cards of videos: frames that say something about a clip, and what clips and cards exchange."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.nets.blocks import conv
from diffjax.nets.layers import Dense, GroupNorm, zeros


class Exchange(nn.Module):
    """The embeddings (B T, D) of frames, to which what clip and cards show of each other is added.

    A vector that is read from the cards (`Reader`) is added to the embedding of each frame of the
    clip, as that of a label would be, and one that is read from the clip to those of the cards. So
    each reaches all layers of the other, at all places, and what one needs to know of the other is
    read by layers of its own. A learned vector marks each card. All are 0 at first.

    images: the frames (B T, H, W, C) of videos, one video after the other, with `cards` last. emb:
    the embeddings (B T, D) of their noise labels.
    """

    frames: int
    cards: int

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], emb: Float[Array, "n d"]) -> Array:
        clip, cards = slice(-self.cards), slice(-self.cards, None)
        marks = self.param("marks", zeros, (self.cards, emb.shape[-1])).astype(emb.dtype)
        images, to = (a.reshape(-1, self.frames, *a.shape[1:]) for a in (images, emb))
        to = to.at[:, cards].add(marks)
        of = {
            name: Reader(name=name)(images[:, k], to[:, k])[:, None]
            for name, k in (("clip", clip), ("cards", cards))
        }
        return to.at[:, clip].add(of["cards"]).at[:, cards].add(of["clip"]).reshape(emb.shape)


class Reader(nn.Module):
    """What the images (B, T, H, W, C) of each item show together: one vector (B, D), 0 at first.

    Convolutions of each image, with the embedding (B, T, D) of its noise label; then the largest
    value over all places, as what is shown can be anywhere, and the mean over the images.
    """

    @nn.compact
    def __call__(self, images: Float[Array, "b t h w c"], emb: Float[Array, "b t d"]) -> Array:
        width = emb.shape[-1]
        each, level = (a.reshape(-1, *a.shape[2:]) for a in (images, emb))
        at_level = Dense(width // 2, kernel_init=zeros, name="level")(level)
        h = GroupNorm()(conv(each, width // 2)) + at_level[:, None, None]
        h = GroupNorm()(conv(nn.silu(h), width // 2))
        h = nn.silu(GroupNorm()(conv(nn.silu(h), width, 2)))
        h = nn.silu(Dense(width)(h.max((1, 2)).reshape(emb.shape).mean(1)))
        return Dense(width, kernel_init=zeros, name="out")(h)
